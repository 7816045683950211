"""Files below /run/mptcp-lab: locks, and documents that are replaced in one piece."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from .basics import RUN, AgentError, Json, patient


@contextlib.contextmanager
def file_lock(path: Path, patience: float, go_on: bool = False) -> Iterator[None]:
    """Hold an flock(2). When it cannot be had in time: an error, or (`go_on`) without it."""
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
    """Replace a file so that it is either the old or the new one, and on disk."""
    temporary = path.with_suffix(".new")
    with temporary.open("w") as file:
        json.dump(document, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def make_run_folder() -> None:
    """/run/mptcp-lab, for root alone."""
    RUN.mkdir(mode=0o700, parents=True, exist_ok=True)
