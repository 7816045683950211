"""Operations on what outlives a call: faults, the lease, and the origin service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..basics import Json
from ..faults.records import lift_fault, read_faults
from ..faults.registry import AppliedFault, apply_fault
from ..lease import refresh_lease, release_lease, take_lease
from ..origin.service import ask_origin
from .base import Operations


class ControlOperations(Operations):
    """Apply and lift faults, hold the lease, and query the origin service."""

    def op_origin(self, name: str, request: Json) -> Any:
        """Query an origin service on this host; see Origin.ask_*."""
        return ask_origin(name, request)

    def op_fault(self, kind: str, ttl: float, params: Json, run: str = "") -> str:
        """Apply a fault for at most `ttl` seconds and return its id; PLANS has the kinds and parameters."""
        return self.open.add("fault", AppliedFault(apply_fault(kind, ttl, params, run)))

    def op_lift(self, fault: str) -> bool:
        """Lift a fault of this probe; return false if it was lifted before, because its time was over."""
        lifted = bool(self.open.get(fault).close())
        self.open.pop(fault)
        return lifted

    def op_lift_record(self, fault: str) -> bool:
        """Lift a fault by the id of its record, whichever probe applied it; return false if there is none."""
        return lift_fault(fault)

    def op_faults(self) -> list[Json]:
        """Return all fault records, with the error of the last undo, and whether the probe has ended."""
        return [{**each, "orphan": not Path(f"/proc/{each['owner']}").exists()} for each in read_faults()]

    def op_lease_take(self, owner: str, run: str, ttl: float) -> Json:
        """See take_lease."""
        return take_lease(owner, run, ttl)

    def op_lease_refresh(self, run: str, ttl: float) -> None:
        """See refresh_lease."""
        refresh_lease(run, ttl)

    def op_lease_release(self, run: str) -> bool:
        """See release_lease."""
        return release_lease(run)
