"""The files and names of a lab on this machine. The names of all its objects contain the lab's id.

The id is derived from the checkout's path and the lab's name, so that two checkouts can each have a lab up,
and ``down`` finds everything of a lab by its name, even after a crash or an edit of the inventory.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from mptcp_lab.folders import STATE_FOLDER, give_to_caller, private_folder, write_private
from mptcp_lab.paths import ROOT

__all__ = ["COLUMN", "NETNS", "LabPaths", "give_to_caller", "lab_paths", "private_folder", "write_private"]

NETNS = Path("/run/netns")
#: The name of the machine of a column, where a host's name would be; no host of an inventory may have it.
COLUMN = "column"


@dataclass(frozen=True)
class LabPaths:
    """The folders and names of one lab on this machine."""

    root: Path
    name: str

    @property
    def id(self) -> str:
        """Return six hexadecimal digits, the same for the same checkout and lab name."""
        return hashlib.sha256(f"{self.root}\0{self.name}".encode()).hexdigest()[:6]

    @property
    def cache(self) -> Path:
        """Return the folder of images and package pools, which ``down`` keeps."""
        return self.root / STATE_FOLDER / "cache"

    @property
    def labs(self) -> Path:
        """Return the folder that holds one folder per lab of this checkout, and nothing else."""
        return self.root / STATE_FOLDER / "labs"

    @property
    def copies(self) -> Path:
        """Return the folder of the inventories of copies, one folder each; ``down`` removes them."""
        return self.root / STATE_FOLDER / "copies"

    @property
    def state(self) -> Path:
        """Return the folder (0700) of keys, ssh_config, `record` and hosts' files; ``down`` removes it."""
        return self.labs / self.name

    @property
    def record(self) -> Path:
        """Return the file in which `up` records the inventory that the lab was brought up from."""
        return self.state / "lab.json"

    @property
    def column(self) -> Path:
        """Return the file that exists while the lab runs on another kernel: which one, and since when."""
        return self.state / "column.json"

    @property
    def control(self) -> Path:
        """Return the control socket of the SSH connection to the machine of a column."""
        return self.run / "control"

    @property
    def old_state(self) -> Path:
        """Return the folder in which older versions kept the state."""
        return self.root / STATE_FOLDER / self.name

    @property
    def lock(self) -> Path:
        """Return the lock file that allows only one `up` or `down` at a time."""
        return self.labs / f"{self.name}.lock"

    @property
    def run(self) -> Path:
        """Return the folder (0700) of SSH sockets; it is below /run, as their paths must fit 108 bytes."""
        return Path(f"/run/mptcp-lab-{self.id}")

    @property
    def prefix(self) -> str:
        """Return the prefix of the names of this lab's network namespaces, units and machines."""
        return f"mlab-{self.id}-"

    @property
    def fabric(self) -> str:
        """Return the name of the network namespace that is the lab's switch."""
        return f"{self.prefix}fabric"

    def netns(self, host: str) -> str:
        """Return the name of a host's network namespace."""
        return f"{self.prefix}{host}"

    def host(self, name: str) -> Path:
        """Return the folder of a host's files."""
        return self.state / "hosts" / name

    def socket(self, name: str) -> Path:
        """Return the path of the Unix socket on which a host's sshd listens."""
        return self.run / name / "ssh"


def lab_paths(name: str = "embedded") -> LabPaths:
    """Return the paths of this checkout's lab with a name."""
    return LabPaths(ROOT, name)
