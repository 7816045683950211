"""Folders and files that only their owner may read: everything below .lab, whoever makes it first."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

#: The folder of a checkout's state. Evidence and keys lie below it, so nobody else may enter it.
STATE_FOLDER = ".lab"


def private_folder(path: Path) -> Path:
    """Make a folder and its missing parents (0700), owned by the user who called sudo where one did.

    A `.lab` folder on the way that others may enter, left by an older version, is closed.
    """
    for folder in reversed((path, *path.parents)):
        if not folder.exists():
            folder.mkdir(mode=0o700, exist_ok=True)  # exist_ok: another process may have been faster
            give_to_caller(folder)
        if folder.name == STATE_FOLDER and folder.stat().st_mode & 0o077:
            with suppress(PermissionError):  # somebody else's: they decide who reads it
                folder.chmod(0o700)
    return path


def write_private(path: Path, text: str) -> None:
    """Write a file (0600) in one step: readers see the old text or the new, never half of it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)
    give_to_caller(draft)
    draft.replace(path)


def give_to_caller(path: Path) -> None:
    """Under sudo, hand a file or folder to the calling user, who drives Ansible and the suite."""
    uid, gid = os.environ.get("SUDO_UID"), os.environ.get("SUDO_GID")
    if os.geteuid() == 0 and uid and gid:
        os.chown(path, int(uid), int(gid))
