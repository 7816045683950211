"""The plan of a fault that is not applied yet, and checks of devices and units that every fault makes."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from ..basics import AgentError, Json
from .reads import device_addresses

ENDPOINTS = "endpoints"  # what a fault touches that may change all endpoints of the host
MANAGEMENT: list[str] = []  # this host's address in the controller's SSH connection, if it has one


class Plan:
    """A fault's plan: the object that it touches (one fault per object), its undo steps, how to apply it."""

    def __init__(self, touches: str, undo: list[tuple[str, Json]], apply: Callable[[], object]) -> None:
        self.touches = touches
        self.undo = undo
        self.apply = apply


def do_overlap(one: str, other: str) -> bool:
    """Return whether two faults that touch these objects would undo each other's changes."""
    if ENDPOINTS in (one, other):
        return all(each == ENDPOINTS or each.startswith("endpoint ") for each in (one, other))
    return one == other


def refuse_management(device: str) -> None:
    """Raise AgentError "refused" for the loopback and for the device of the controller's connection."""
    addresses = [argv[0].partition("/")[0] for argv in device_addresses(device)]
    if device == "lo" or set(MANAGEMENT) & set(addresses):
        raise AgentError("refused", f"{device} is the loopback or carries the management connection")


def require_unit(unit: str) -> None:
    """Raise AgentError "unsupported" without systemd, and "refused" if the unit is not active."""
    if not Path("/run/systemd/system").is_dir():
        raise AgentError("unsupported", "systemd does not run here", capability="systemd")
    done = subprocess.run(["systemctl", "is-active", unit], capture_output=True, text=True, check=False)
    if done.returncode:
        raise AgentError("refused", f"{unit} does not run: it is {done.stdout.strip()}")
