"""Where a lab keeps its things, and how they are named. Everything of one lab carries its id.

The id comes from the checkout's path and the lab's name, so two checkouts can each have a lab up, and
``down`` finds all that belongs to a lab by name alone: after a crash, and after the inventory was edited.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from mptcp_lab.inventory.load import ROOT

NETNS = Path("/run/netns")


@dataclass(frozen=True)
class Place:
    """The folders and names of one embedded lab."""

    root: Path
    name: str

    @property
    def id(self) -> str:
        """Six hexadecimal digits, the same for the same checkout and lab name."""
        return hashlib.sha256(f"{self.root}\0{self.name}".encode()).hexdigest()[:6]

    @property
    def cache(self) -> Path:
        """The image and the package pool; kept by ``down``."""
        return self.root / ".lab" / "cache"

    @property
    def state(self) -> Path:
        """Keys, ssh_config and the hosts' own files (0700); removed by ``down``."""
        return self.root / ".lab" / self.name

    @property
    def lock(self) -> Path:
        """The lock that `up` and `down` take: one of them at a time."""
        return self.root / ".lab" / f"{self.name}.lock"

    @property
    def run(self) -> Path:
        """The hosts' SSH sockets (0700). Under /run: a Unix socket's path must stay below 108 bytes."""
        return Path(f"/run/mptcp-lab-{self.id}")

    @property
    def prefix(self) -> str:
        """What the names of this lab's network namespaces, units and machines begin with."""
        return f"mlab-{self.id}-"

    @property
    def fabric(self) -> str:
        """The network namespace that is the lab's switch."""
        return f"{self.prefix}fabric"

    def netns(self, host: str) -> str:
        """Return the name of a host's network namespace."""
        return f"{self.prefix}{host}"

    def host(self, name: str) -> Path:
        """Return the folder with a host's own files."""
        return self.state / "hosts" / name

    def socket(self, name: str) -> Path:
        """Return the Unix socket on which a host's sshd answers."""
        return self.run / name / "ssh"


def here(name: str = "embedded") -> Place:
    """Return the place of this checkout's lab with that name."""
    return Place(ROOT, name)


def private_folder(path: Path) -> Path:
    """Make a folder that only its owner may enter, owned by the user who called sudo where one did."""
    missing = [p for p in (path, *path.parents) if not p.exists()]
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    for made in missing:
        give_to_caller(made)
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
