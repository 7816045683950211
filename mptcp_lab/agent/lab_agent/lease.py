"""The lease: the mark that one run has this host for itself."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator

from .basics import RUN, AgentError, Json
from .faults.records import LOCK_PATIENCE
from .files import file_lock, read_own, write_synced

LEASE = RUN / "lease"


@contextlib.contextmanager
def held_lease() -> Iterator[Json | None]:
    """Hold the lease's lock file, and yield the lease that is in force, or None."""
    with file_lock(RUN / "lease.lock", LOCK_PATIENCE):
        try:
            lease = json.loads(read_own(LEASE))
            float(lease["expires"]), str(lease["run"]), str(lease["owner"])
        except (FileNotFoundError, KeyError, TypeError, ValueError):
            lease = None
        yield lease if lease and lease["expires"] > time.monotonic() else None


def take_lease(owner: str, run: str, ttl: float) -> Json:
    """Take the lease for `ttl` seconds, or extend it if this run holds it already; return the lease.

    Raises AgentError "lease-busy" with the holder and the time of expiry (wall clock).
    """
    with held_lease() as held:
        if held and held["run"] != run:
            until = time.time() + held["expires"] - time.monotonic()
            message = f"{held['owner']} holds this host for {until - time.time():.0f} s more"
            raise AgentError("lease-busy", message, owner=held["owner"], run=held["run"], until=until)
        lease = {"owner": owner, "run": run, "expires": time.monotonic() + ttl}
        write_synced(LEASE, lease)
    return lease


def require_lease(run: str) -> None:
    """Raise AgentError "no-lease" unless this run holds the lease."""
    with held_lease() as held:
        if held is None or held["run"] != run:
            holder = "nobody holds it" if held is None else f"{held['owner']} holds it"
            raise AgentError("no-lease", f"this run does not hold the host's lease: {holder}")


def refresh_lease(run: str, ttl: float) -> None:
    """Extend this run's lease to `ttl` seconds from now.

    Raises AgentError "lease-lost" if it expired or another run holds the lease.
    """
    with held_lease() as held:
        if held is None or held["run"] != run:
            raise AgentError(
                "lease-lost", f"the lease {'expired' if held is None else 'is ' + held['owner'] + 's'}"
            )
        write_synced(LEASE, {**held, "expires": time.monotonic() + ttl})


def release_lease(run: str) -> bool:
    """Release this run's lease; return False if this run did not hold it any more."""
    with held_lease() as held:
        if held is None or held["run"] != run:
            return False
        LEASE.unlink()
    return True
