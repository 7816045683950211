"""Create folders and files that only their owner may read, such as everything below .lab."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

#: The folder of a checkout's state. It contains evidence and keys, so that only its owner may enter it.
STATE_FOLDER = ".lab"


def private_folder(path: Path) -> Path:
    """Create a folder and its missing parents with mode 0700; under sudo, the calling user owns them.

    If one of these folders is a `.lab` folder of an older version that other users may enter, its mode is
    changed to 0700.
    """
    for folder in reversed((path, *path.parents)):
        if not folder.exists():
            folder.mkdir(mode=0o700, exist_ok=True)  # exist_ok: another process may have been faster
            give_to_caller(folder)
        if folder.name == STATE_FOLDER and folder.stat().st_mode & 0o077:
            with suppress(PermissionError):  # another user owns it and decides who may read it
                folder.chmod(0o700)
    return path


def write_private(path: Path, text: str) -> None:
    """Write a file with mode 0600 in one step: a reader gets the old text or the new text, never a part."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)
    give_to_caller(draft)
    draft.replace(path)


def give_to_caller(path: Path) -> None:
    """Make the user who called sudo the owner of a file or folder; no-op without sudo.

    That user runs Ansible and the suite.
    """
    uid, gid = os.environ.get("SUDO_UID"), os.environ.get("SUDO_GID")
    if os.geteuid() == 0 and uid and gid:
        os.chown(path, int(uid), int(gid))
