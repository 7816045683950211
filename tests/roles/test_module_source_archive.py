"""Test how module `source_archive` packs a directory: the same source gives the same digest."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.roles.test_modules import run


def archive(source: Path, cache: Path, *, check: bool = False) -> dict[str, Any]:
    return run("source_archive", check=check, source=str(source), cache=str(cache))


def names(found: dict[str, Any]) -> list[str]:
    with tarfile.open(found["path"]) as packed:
        return packed.getnames()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "proxy"
    (folder / "src").mkdir(parents=True)
    (folder / "src/main.c").write_text("int main(void) { return 0; }\n")
    (folder / "configure").write_text("#!/bin/sh\n")
    (folder / "configure").chmod(0o755)
    return folder


def test_an_archive_is_used_where_it_lies(tmp_path: Path) -> None:
    path = tmp_path / "proxy.tar.gz"
    path.write_bytes(b"packed")
    found = archive(path, tmp_path / "cache")
    assert (found["path"], found["sha256"]) == (str(path), hashlib.sha256(b"packed").hexdigest())
    assert not (tmp_path / "cache").exists()


def test_a_directory_is_packed_to_the_same_bytes(source: Path, tmp_path: Path) -> None:
    first = archive(source, tmp_path / "one")
    (source / "src/main.c").touch()
    (source / "src/main.o").write_bytes(b"of a build by hand")
    second = archive(source, tmp_path / "two")
    assert first["sha256"] == second["sha256"]
    assert hashlib.sha256(Path(first["path"]).read_bytes()).hexdigest() == first["sha256"]
    assert names(second) == ["source/configure", "source/src/main.c"]
    with tarfile.open(second["path"]) as packed:
        assert [each.mode for each in packed] == [0o755, 0o644]


@pytest.mark.parametrize("change", ["content", "name", "execute bit"])
def test_a_change_of_the_source_changes_the_digest(source: Path, tmp_path: Path, change: str) -> None:
    before = archive(source, tmp_path / "cache")["sha256"]
    if change == "content":
        (source / "src/main.c").write_text("int main(void) { return 1; }\n")
    elif change == "name":
        (source / "src/main.c").rename(source / "src/proxy.c")
    else:
        (source / "configure").chmod(0o644)
    assert archive(source, tmp_path / "cache")["sha256"] != before


def test_check_mode_writes_nothing_and_returns_the_same(source: Path, tmp_path: Path) -> None:
    rehearsed = archive(source, tmp_path / "cache", check=True)
    assert not (tmp_path / "cache").exists()
    assert archive(source, tmp_path / "cache") == rehearsed


def test_the_cache_keeps_the_archives_that_were_used_last(source: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    for number in range(20):
        old = cache / f"source-{number:064}.tar.gz"
        old.write_bytes(b"packed")
        os.utime(old, (number, number))
    (cache / "image.tar.gz").write_bytes(b"of another kind")
    first = Path(archive(source, cache)["path"])
    os.utime(first, (0, 0))  # the oldest one, and in use again
    archive(source, cache, check=True)
    assert first.stat().st_mtime == 0
    assert Path(archive(source, cache)["path"]) == first
    newest = {f"source-{number:064}.tar.gz" for number in range(13, 20)}
    assert {each.name for each in cache.iterdir()} == {*newest, first.name, "image.tar.gz"}


def test_what_git_ignores_is_not_packed(source: Path, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(source)], check=True)
    (source / ".gitignore").write_text("*\n!/src/\n!/src/*.c\n!/configure\n")
    (source / "proxy").write_bytes(b"of a build by hand")
    assert names(archive(source, tmp_path / "cache")) == ["source/configure", "source/src/main.c"]


def test_a_name_that_is_not_utf_8_is_packed(source: Path, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(source)], check=True)
    (source / os.fsdecode(b"\xe9.c")).write_text("\n")
    assert os.fsdecode(b"source/\xe9.c") in names(archive(source, tmp_path / "cache"))


def test_a_source_that_is_not_there_is_named(tmp_path: Path) -> None:
    found = archive(tmp_path / "none", tmp_path / "cache")
    assert f"{tmp_path}/none is not there; give an archive or a directory" in found["msg"]


def test_a_directory_without_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "holds no file to build from" in archive(tmp_path / "empty", tmp_path / "cache")["msg"]
