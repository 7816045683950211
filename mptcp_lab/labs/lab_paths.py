"""Where a lab keeps its things, and how they are named. Everything of one lab carries its id.

The id comes from the checkout's path and the lab's name, so two checkouts can each have a lab up, and
``down`` finds all that belongs to a lab by name alone: after a crash, and after the inventory was edited.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from mptcp_lab.folders import STATE_FOLDER, give_to_caller, private_folder, write_private
from mptcp_lab.paths import ROOT

__all__ = ["NETNS", "LabPaths", "give_to_caller", "lab_paths", "private_folder", "write_private"]

NETNS = Path("/run/netns")


@dataclass(frozen=True)
class LabPaths:
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
        return self.root / STATE_FOLDER / "cache"

    @property
    def labs(self) -> Path:
        """The folder of all labs of this checkout: nothing but labs lies there."""
        return self.root / STATE_FOLDER / "labs"

    @property
    def state(self) -> Path:
        """Keys, ssh_config, `record` and the hosts' own files (0700); removed by ``down``."""
        return self.labs / self.name

    @property
    def record(self) -> Path:
        """What `up` writes down of the lab: from which inventory it was brought up."""
        return self.state / "lab.json"

    @property
    def old_state(self) -> Path:
        """Where older versions kept the state, beside results and cache."""
        return self.root / STATE_FOLDER / self.name

    @property
    def lock(self) -> Path:
        """The lock that `up` and `down` take: one of them at a time."""
        return self.labs / f"{self.name}.lock"

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


def lab_paths(name: str = "embedded") -> LabPaths:
    """Return the place of this checkout's lab with that name."""
    return LabPaths(ROOT, name)
