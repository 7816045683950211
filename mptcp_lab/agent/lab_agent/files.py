"""Files below /run/mptcp-lab: lock files, and documents that are replaced atomically."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from .basics import RUN, AgentError, Json, patient


@contextlib.contextmanager
def file_lock(path: Path, patience: float, go_on: bool = False) -> Iterator[None]:
    """Hold an flock(2) on a file, and wait for it for at most `patience` seconds.

    When the time is over: raise AgentError "locked", or with `go_on` continue without the lock.
    """
    make_run_folder()
    path.parent.mkdir(mode=0o700, exist_ok=True)
    deadline = time.monotonic() + patient(patience)
    with path.open("a") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    if go_on:
                        break
                    raise AgentError(
                        "locked", f"another process has held {path} for {patience:g} s"
                    ) from None
                time.sleep(0.005)
        yield


def write_synced(path: Path, document: Json) -> None:
    """Replace a file with a JSON document, atomically and synced to disk."""
    write_whole(path, json.dumps(document).encode())


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file atomically and sync it to disk; if that fails (a full disk), the old file stays."""
    temporary = path.with_suffix(".new")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_own(path: Path) -> bytes:
    """Return the content of a regular file that only its owner, this process's user (root), may write.

    Raises AgentError "refused" for any other file, OSError if it cannot be opened (symbolic links included).
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or not _is_own(found):
            raise AgentError("refused", f"{path} does not belong to root alone; remove it")
        return file.read()


def make_run_folder() -> None:
    """Create /run/mptcp-lab for root alone; raise AgentError "refused" if another user may write to it."""
    RUN.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = RUN.lstat()
    if not stat.S_ISDIR(found.st_mode) or not _is_own(found):
        raise AgentError("refused", f"{RUN} does not belong to root alone; find out why, then remove it")


def _is_own(found: os.stat_result) -> bool:
    return found.st_uid == os.geteuid() and not found.st_mode & 0o022
