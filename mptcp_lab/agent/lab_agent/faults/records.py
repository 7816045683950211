"""Records of faults that are applied, and the lock that orders who writes, applies and lifts.

A record /run/mptcp-lab/faults/ID.json is synced before the fault is applied. It holds the steps that undo it:
names of UNDO and their arguments.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from ..basics import RUN, AgentError, Json
from ..files import file_lock, read_own, write_synced
from .timer import disarm_timer
from .undo import run_undo

FAULTS = RUN / "faults"
# Of a probe; a keeper goes on after KEEPER_PATIENCE, as who holds the lock may be frozen.
LOCK_PATIENCE = 10.0


def fault_lock(
    patience: float = LOCK_PATIENCE, go_on: bool = False
) -> contextlib.AbstractContextManager[None]:
    """The lock over fault records."""
    return file_lock(FAULTS / "lock", patience, go_on)


def read_faults() -> list[Json]:
    """Every record, the oldest first."""
    records = []
    for path in FAULTS.glob("*.json"):
        with contextlib.suppress(AgentError, OSError, ValueError):  # lifted just now, or not the lab's
            records.append(json.loads(read_own(path)))
    return sorted(records, key=lambda record: float(record["since"]))


def lift_fault(fault: str, patience: float = LOCK_PATIENCE, go_on: bool = False) -> bool:
    """Undo a fault and forget it; False when it was lifted before. A failure is recorded and raised."""
    with fault_lock(patience, go_on):
        return undo_and_forget(FAULTS / f"{fault}.json")


def undo_and_forget(path: Path) -> bool:
    """Undo the fault of this record and remove it; False when there is none. The caller holds fault_lock."""
    try:
        record = json.loads(read_own(path))
    except FileNotFoundError:
        return False
    try:
        run_undo(record["undo"])
    except (AgentError, OSError) as error:
        with contextlib.suppress(OSError):  # a full disk: the keeper counts nothing, and tries again
            write_synced(path, {**record, "tries": record["tries"] + 1, "error": str(error)})
        raise
    path.unlink()
    disarm_timer(path.stem)
    return True
