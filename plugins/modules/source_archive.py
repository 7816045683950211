#!/usr/bin/python
"""Find the archive of a program's source on the controller, or pack the directory: an Ansible module.

A directory is packed to the same bytes as long as names, contents and execute bits are the same, so that the
digest of the archive shows whether the source has changed.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

DOCUMENTATION = """
module: source_archive
short_description: Find the archive of a program's source, or pack the directory
author: mptcp-lab maintainers
description:
  - Returns the path and the digest of the archive (tar, gzip) of a source. A directory is packed into
    C(cache); an archive is used where it lies.
  - From a Git checkout the tracked files are packed, as they are in the working tree, and new files that Git
    does not ignore. From any other directory everything is packed except files C(*.o) and C(*.a).
  - C(cache) keeps the eight archives that were used last; older ones are removed.
  - In check mode nothing is written or removed, and the same values are returned.
options:
  source:
    description: Absolute path of an archive or of a directory.
    type: path
    required: true
  cache:
    description: The folder for the archive of a directory.
    type: path
    required: true
"""
RETURN = """
path:
  description: The path of the archive.
  returned: success
  type: str
sha256:
  description: The digest of the archive.
  returned: success
  type: str
"""

#: Ansible replaces this text with the arguments; its presence makes Ansible run the module in one round trip.
ARGUMENTS = r"""<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>"""
OPTIONS = ("source", "cache")
#: Results of an earlier build; they would be taken for up to date.
BUILT = (".o", ".a")
#: How many archives stay in the cache: more than one run uses, since each host may name its own source.
KEPT = 8


class Refused(Exception):
    """There is no archive of the source; the message names the reason."""


def options(given: dict[str, Any]) -> dict[str, str]:
    """Return the module's options; raise `Refused` for one that is unknown or wrong."""
    found = {name: value for name, value in given.items() if not name.startswith("_ansible_")}
    if unknown := sorted(found.keys() - set(OPTIONS)):
        raise Refused(f"source_archive has no option {', '.join(unknown)}; it has {', '.join(OPTIONS)}")
    found = {name: found.get(name) or "" for name in OPTIONS}
    for name, value in found.items():
        if not isinstance(value, str):
            raise Refused(f"source_archive: {name} is {value!r}, and has to be a str")
        if not value.startswith("/"):
            raise Refused(f"source_archive: {name} is {found[name]!r}, and has to be an absolute path")
    return found


def git_files(folder: Path) -> list[str] | None:
    """Return the files of a Git checkout, without those that it ignores; None if it is no checkout."""
    if not (folder / ".git").exists():
        return None
    listed = ("ls-files", "-z", "--cached", "--others", "--exclude-standard")
    # Git refuses a checkout that belongs to another user, unless it is named as safe.
    command = ["git", "-c", f"safe.directory={folder}", "-C", str(folder), *listed]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="surrogateescape", check=False)
    except FileNotFoundError:
        raise Refused(f"{folder} is a Git checkout, and git is not installed here; install git") from None
    if done.returncode:
        raise Refused(f"{folder}: git cannot list its files: {done.stderr.strip()}")
    return [name for name in done.stdout.split("\0") if name]


def files(folder: Path) -> Iterable[str]:
    """Return the names of the files to pack, in order."""
    found = git_files(folder)
    if found is None:
        found = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix not in BUILT]
    return sorted(name for name in set(found) if (folder / name).is_symlink() or (folder / name).is_file())


def member(folder: Path, name: str) -> tuple[tarfile.TarInfo, bytes]:
    """Return a file as a member of the archive, without owner and time, and its content."""
    path, info = folder / name, tarfile.TarInfo(f"source/{name}")
    if path.is_symlink():
        info.type, info.linkname = tarfile.SYMTYPE, str(path.readlink())
        return info, b""
    content = path.read_bytes()
    info.size, info.mode = len(content), 0o755 if path.stat().st_mode & 0o100 else 0o644
    return info, content


def pack(folder: Path) -> bytes:
    """Return the archive of a directory; raise `Refused` if there is nothing to pack."""
    names = list(files(folder))
    if not names:
        raise Refused(f"{folder} holds no file to build from")
    packed = io.BytesIO()
    # The level is a compromise: the archive goes over the network once, and is packed in every run.
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1, mtime=0, filename="") as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name in names:
            info, content = member(folder, name)
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def store(packed: bytes, path: Path) -> None:
    """Write an archive to the cache, or mark the one that is there as used; remove the oldest ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        os.utime(path)
    else:
        draft = path.with_suffix(".new")
        draft.write_bytes(packed)
        draft.replace(path)
    used = []
    for each in path.parent.glob("source-*.tar.gz"):
        with contextlib.suppress(FileNotFoundError):  # the same task of another host removes old ones too
            used.append((each.stat().st_mtime_ns, each))
    for _, old in sorted(used, reverse=True)[KEPT:]:
        old.unlink(missing_ok=True)


def find(source: Path, cache: Path, check: bool) -> dict[str, Any]:
    """Return the result: the path of the archive and its digest."""
    if not source.exists():
        raise Refused(f"{source} is not there; give an archive or a directory on this machine")
    if source.is_dir():
        packed = pack(source)
        digest = hashlib.sha256(packed).hexdigest()
        path = cache / f"source-{digest}.tar.gz"
        if not check:
            store(packed, path)
        return {"path": str(path), "sha256": digest}
    return {"path": str(source), "sha256": hashlib.sha256(source.read_bytes()).hexdigest()}


def main() -> None:
    """Find or pack the archive, and print the result as Ansible reads it."""
    given = json.loads(ARGUMENTS)
    try:
        wanted = options(given)
        outcome = find(Path(wanted["source"]), Path(wanted["cache"]), given["_ansible_check_mode"])
    except (Refused, OSError) as error:
        outcome = {"failed": True, "msg": str(error)}
    print(json.dumps({"changed": False, **outcome}))
    sys.exit("failed" in outcome)


if __name__ == "__main__":
    main()
