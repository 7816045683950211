"""What a fault is before it is applied, and what no fault may touch."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from ..basics import AgentError, Json
from .reads import device_addresses

MANAGEMENT: list[str] = []  # this host's address of the controller's connection, where it has one


class Plan:
    """What a fault touches (no two faults may touch the same), how to undo it, and how to apply it."""

    def __init__(self, touches: str, undo: list[tuple[str, Json]], apply: Callable[[], object]) -> None:
        self.touches = touches
        self.undo = undo
        self.apply = apply


def refuse_management(device: str) -> None:
    """A device that carries the controller's connection is never touched, nor is the loopback."""
    addresses = [argv[0].partition("/")[0] for argv in device_addresses(device)]
    if device == "lo" or set(MANAGEMENT) & set(addresses):
        raise AgentError("refused", f"{device} is the loopback or carries the management connection")


def require_unit(unit: str) -> None:
    """Raise "unsupported" where there is no systemd, "refused" for a unit that does not run."""
    if not Path("/run/systemd/system").is_dir():
        raise AgentError("unsupported", "systemd does not run here", capability="systemd")
    done = subprocess.run(["systemctl", "is-active", unit], capture_output=True, text=True, check=False)
    if done.returncode:
        raise AgentError("refused", f"{unit} does not run: it is {done.stdout.strip()}")
