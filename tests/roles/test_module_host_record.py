"""Test what module `host_record` records, and how it restores files, folders and packages in the manifest."""

from __future__ import annotations

import base64
import hashlib
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mptcp_lab.machines import owned
from tests.roles.golden import ROOT

FOLDER = ROOT / "plugins/modules"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="unsupported: what it writes belongs to root")


@pytest.fixture
def restore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the module, with its state below the test's folder."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, "host_record", raising=False)
    import host_record as program

    monkeypatch.setattr(program, "BACKUPS", tmp_path / "backups")
    monkeypatch.setattr(program, "MANIFEST", tmp_path / "manifest.json")
    monkeypatch.setattr(program, "RECORD", tmp_path / "state/record.json")
    return program


def kept(text: str) -> dict[str, Any]:
    return {"content": base64.b64encode(text.encode()).decode(), "mode": 0o644, "uid": 0, "gid": 0}


def entry(path: Path, before: str | None, *after: str) -> dict[str, Any]:
    """Return the manifest entry of a file to which the lab has written these texts."""
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in after]
    return {
        "kind": "file",
        "name": str(path),
        "owners": ["one"],
        "before": None if before is None else kept(before),
        "after": digests,
    }


@pytest.mark.parametrize("now", ["lab 1", "lab 2"])
@pytest.mark.parametrize("before", [None, "before"])
def test_a_file_of_the_labs_becomes_what_it_was(
    restore: ModuleType, tmp_path: Path, before: str | None, now: str
) -> None:
    path = tmp_path / "file"
    path.write_text(now)
    for apply in (False, True):
        outcome = restore.Outcome(apply)
        restore.restore_files([entry(path, before, "lab 1", "lab 2")], outcome)
        assert (outcome.done, outcome.left, outcome.failed) == ([f"file {path}"], [], [])
    assert (path.read_text() if path.exists() else None) == before


@pytest.mark.parametrize("writer", ["converge", "confirmed"])
def test_a_draft_of_a_killed_run_goes(restore: ModuleType, tmp_path: Path, writer: str) -> None:
    (tmp_path / f".file.{writer}").write_text("half of a lo")
    restore.restore_files([entry(tmp_path / "file", None, "lab")], restore.Outcome(apply=True))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("before", [None, "before"])
def test_a_change_that_never_happened_is_a_no_op(
    restore: ModuleType, tmp_path: Path, before: str | None
) -> None:
    path = tmp_path / "file"
    if before is not None:
        path.write_text(before)
    outcome = restore.Outcome(True)
    restore.restore_files([entry(path, before, "lab")], outcome)
    assert (outcome.done, outcome.left, outcome.failed) == ([], [], [])


def test_an_edit_of_a_file_from_before_the_lab_stays_and_so_does_what_was_before(
    restore: ModuleType, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_text("edited")
    outcome = restore.Outcome(True)
    restore.restore_files([entry(path, "before", "lab")], outcome)
    (saved,) = (each for each in restore.BACKUPS.rglob("*") if each.is_file())
    assert (path.read_text(), saved.read_text()) == ("edited", "before")
    assert outcome.left == [
        f"file {path}: edited since the lab wrote it; left alone; "
        f"what was there before the lab is now {saved}"
    ]


def test_an_edit_of_a_file_of_the_labs_own_is_moved_and_never_over_another(
    restore: ModuleType, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    for text in ("edit 1", "edit 2"):
        path.write_text(text)
        restore.restore_files([entry(path, None, "lab")], restore.Outcome(True))
        assert not path.exists()
    saved = sorted(each for each in restore.BACKUPS.rglob("*") if each.is_file())
    assert [each.read_text() for each in saved] == ["edit 1", "edit 2"]
    assert [each.name for each in saved] == ["file.edited", "file.edited.2"]


def test_a_file_that_somebody_removed_stays_removed_and_what_was_before_is_saved(
    restore: ModuleType, tmp_path: Path
) -> None:
    path, outcome = tmp_path / "file", restore.Outcome(True)
    restore.restore_files([entry(path, "before", "lab")], outcome)
    assert not path.exists()
    assert "removed since the lab wrote it; left alone" in outcome.left[0]
    assert [each.read_text() for each in restore.BACKUPS.rglob("*") if each.is_file()] == ["before"]


def test_a_folder_of_the_labs_goes_unless_somebody_put_a_file_there(
    restore: ModuleType, tmp_path: Path
) -> None:
    folder, mine = tmp_path / "folder", tmp_path / "folder/program.py"
    (folder / "__pycache__").mkdir(parents=True)
    (folder / "__pycache__/program.pyc").write_text("")
    mine.write_text("lab")
    (folder / "stranger").write_text("precious")
    entries = [
        {"kind": "folder", "name": str(folder), "owners": ["one"], "before": None, "after": ["present"]},
        entry(mine, None, "lab"),
    ]
    outcome = restore.Outcome(True)
    restore.restore_files(entries, outcome)
    assert [path.name for path in folder.iterdir()] == ["stranger"]
    assert outcome.left == [f"folder {folder}: holds {folder}/stranger; left alone"]
    (folder / "stranger").unlink()
    restore.restore_files(entries, restore.Outcome(True))
    assert not folder.exists()


def test_what_two_roles_changed_stays_until_both_are_gone(
    restore: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restore, "reload_managers", lambda *_: None)
    path = tmp_path / "file"
    path.write_text("lab")
    shared = {**entry(path, "before", "lab"), "owners": ["one", "two@x"]}
    restore.write_manifest([shared])
    restore.remove(True, ["one"])
    assert path.read_text() == "lab"
    assert restore.read_manifest()[0]["owners"] == ["two@x"]
    rehearsed = restore.remove(False, ["two"])
    assert (rehearsed["changed"], rehearsed["done"], path.read_text()) == (True, [f"file {path}"], "lab")
    restore.remove(True, ["two"])
    assert path.read_text() == "before"
    assert restore.read_manifest() == []
    for owners in (["two"], []):
        assert restore.remove(True, owners)["changed"] is False


@pytest.mark.parametrize("text", ["", "{", "[]", '{"entries": [{}]}', '{"entries": [1]}', "[" * 100_000])
def test_a_damaged_manifest_is_one_sentence(restore: ModuleType, text: str) -> None:
    restore.MANIFEST.write_text(text)
    with pytest.raises(restore.Failed) as refused:
        restore.read_manifest()
    assert "is damaged" in str(refused.value)
    assert "nothing was changed" in str(refused.value)
    with pytest.raises(ValueError):
        owned.parse(text)


@pytest.mark.parametrize("text", ["", "[]", '{"was": []}', '{"was": {}, "kept": 1}', "[" * 100_000])
def test_a_damaged_record_is_one_sentence(restore: ModuleType, text: str) -> None:
    restore.RECORD.parent.mkdir()
    restore.RECORD.write_text(text)
    with pytest.raises(restore.Failed, match=r"record\.json is damaged [^\n]*; nothing was changed"):
        restore.restore(False, {})


def test_the_record_is_written_once_and_never_in_check_mode(restore: ModuleType) -> None:
    kinds = {"links": restore.read_links}
    assert restore.take_record(False, kinds)["changed"] is True
    assert not restore.RECORD.exists()
    assert restore.take_record(True, kinds)["changed"] is True
    written = restore.RECORD.read_text()
    assert restore.read_record()["was"] == {"links": restore.read_links()}
    assert restore.take_record(True, kinds) == {"changed": False, "diff": []}
    assert restore.RECORD.read_text() == written


def test_steps_that_fail_are_one_error_that_names_them_all(restore: ModuleType) -> None:
    outcome = restore.Outcome(apply=True, left=["package x: needed by y; left alone"])
    for name in ("unit a", "unit b"):
        with outcome.step(name):
            raise restore.Failed("it does not stop")
    with pytest.raises(restore.Failed) as failed:
        outcome.raise_failures()
    assert str(failed.value).splitlines() == [
        "unit a: it does not stop",
        "unit b: it does not stop",
        "package x: needed by y; left alone",
        "These were not taken back; repair them, and repeat",
    ]


def test_what_the_lab_changed_is_listed_by_host() -> None:
    entries = [
        entry(Path("/etc/x"), "before", "lab"),
        {"kind": "sysctl", "name": "net/x", "owners": ["a", "b"], "before": "0", "after": ["1", "2"]},
    ]
    assert list(owned.lines({"client": entries, "server": []})) == [
        "client: 2 changes",
        "  file      /etc/x: replaced; the original is kept [one]",
        "  sysctl    net/x: 0 -> 2 [a, b]",
        "server: the lab has changed nothing",
    ]
