"""Find out what makes a run: the revision of this checkout, the lock beside the inventory, the engine."""

from __future__ import annotations

from contextlib import suppress
from hashlib import sha256

from mptcp_lab.inventory.model import Lab
from mptcp_lab.lock import find_lock_file
from mptcp_lab.results.made_by import MadeBy
from mptcp_lab.revision import read_revision

#: The program that runs the hosts, by a lab's flavour.
ENGINES = {"embedded": "systemd-nspawn", "vm": "qemu", "hardware": "hardware"}


def describe_origin(lab: Lab, column: str) -> MadeBy:
    """Return what is known about a run's origin before its hosts are reached."""
    revision = read_revision()
    return MadeBy(
        revision=revision.commit,
        edited=revision.is_edited,
        lock=hash_lock(lab.source),
        engine=ENGINES.get(lab.flavour, lab.flavour),
        column=column,
    )


def hash_lock(inventory: str) -> str:
    """Return the SHA-256 of the lab.lock.yml beside an inventory; empty if none can be read."""
    if path := find_lock_file(inventory):
        with suppress(OSError):
            return sha256(path.read_bytes()).hexdigest()
    return ""
