"""Records of the applied faults, and the lock that serialises writing, applying and lifting.

A record /run/mptcp-lab/faults/ID.json is synced to disk before the fault is applied. It holds the steps that
undo the fault: names of functions in UNDO, and their arguments.
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
# Seconds that a probe waits for the lock. A keeper waits for KEEPER_PATIENCE and then continues without the
# lock, because the process that holds it may be frozen.
LOCK_PATIENCE = 10.0


def fault_lock(
    patience: float = LOCK_PATIENCE, go_on: bool = False
) -> contextlib.AbstractContextManager[None]:
    """Return the context manager that holds the lock of the fault records; see file_lock."""
    return file_lock(FAULTS / "lock", patience, go_on)


def read_faults() -> list[Json]:
    """Return all fault records, the oldest first."""
    records = []
    for path in FAULTS.glob("*.json"):
        with contextlib.suppress(AgentError, OSError, ValueError):  # just lifted, or not a file of the lab
            records.append(json.loads(read_own(path)))
    return sorted(records, key=lambda record: float(record["since"]))


def lift_fault(fault: str, patience: float = LOCK_PATIENCE, go_on: bool = False) -> bool:
    """Undo a fault and remove its record; return False if it was lifted before.

    Raises AgentError or OSError if the undo fails; the error is also written to the record.
    """
    with fault_lock(patience, go_on):
        return undo_and_forget(FAULTS / f"{fault}.json")


def undo_and_forget(path: Path) -> bool:
    """Undo the fault of this record and remove the record; return False if there is no record.

    The caller holds fault_lock. Raises AgentError or OSError if the undo fails.
    """
    try:
        record = json.loads(read_own(path))
    except FileNotFoundError:
        return False
    try:
        run_undo(record["undo"])
    except (AgentError, OSError) as error:
        with contextlib.suppress(OSError):  # on a full disk the try is not counted, and the keeper retries
            write_synced(path, {**record, "tries": record["tries"] + 1, "error": str(error)})
        raise
    path.unlink()
    disarm_timer(path.stem)
    return True
