"""The revision of a checkout: its commit, and whether files were edited."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mptcp_lab.inventory import load, resolve
from mptcp_lab.plugin.origin import describe_origin, hash_lock
from mptcp_lab.revision import Revision, read_revision

GIT = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org")


def git(folder: Path, *words: str) -> str:
    return subprocess.run(
        [*GIT, "-C", str(folder), *words], capture_output=True, text=True, check=True
    ).stdout


def test_a_checkout_has_a_commit_and_may_be_edited(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / ".gitignore").write_text("built\n")
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    commit = git(tmp_path, "rev-parse", "HEAD").strip()
    (tmp_path / "built").write_text("ignored by Git")
    assert read_revision(tmp_path) == Revision(commit, False)
    (tmp_path / "file").write_text("two")
    assert read_revision(tmp_path) == Revision(commit, True)
    assert str(read_revision(tmp_path)) == f"{commit}+edits"


def test_a_folder_outside_git_has_no_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))  # TMPDIR may be inside a checkout
    assert read_revision(tmp_path) == Revision("", None)
    assert str(read_revision(tmp_path)) == "unknown"


def test_a_run_is_made_by_this_revision_its_lock_and_its_engine(tmp_path: Path) -> None:
    assert hash_lock(str(tmp_path)) == ""
    (tmp_path / "lab.lock.yml").write_text("abc")
    assert hash_lock(str(tmp_path)).startswith("ba7816bf8f01cfea")
    made_by = describe_origin(load(resolve("embedded")), "debian-12")
    assert (made_by.engine, made_by.column) == ("systemd-nspawn", "debian-12")
    assert made_by.revision == read_revision().commit
