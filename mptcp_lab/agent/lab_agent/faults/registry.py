"""Apply faults: record the undo first, then start the watchdogs, then apply."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable

from ..basics import AgentError, Json
from ..files import write_synced
from ..keeper import ensure_keeper
from ..kernel.path_manager import PathManager
from ..lease import require_lease
from .devices import plan_address_remove, plan_link_down, plan_link_up, plan_netem, plan_rate
from .flip import plan_flip
from .packets import (
    plan_balance,
    plan_count,
    plan_drop,
    plan_drop_option,
    plan_reject,
    plan_strip_option,
    plan_tproxy,
    plan_tracker,
)
from .plan import ENDPOINTS, Plan, do_overlap
from .processes import plan_kill, plan_socket_unit, plan_stall, plan_unit_stop
from .records import FAULTS, fault_lock, lift_fault, read_faults, undo_and_forget
from .settings import (
    plan_endpoint_add,
    plan_endpoint_change,
    plan_endpoint_remove,
    plan_endpoints,
    plan_limits,
    plan_routes,
    plan_rules,
    plan_sysctl,
)
from .timer import SYSTEMD, arm_timer
from .undo import run_undo

TTL_RANGE = (0.5, 3600.0)
PLANS: dict[str, Callable[..., Plan]] = {
    "drop": plan_drop,
    "reject": plan_reject,
    "strip_option": plan_strip_option,
    "drop_option": plan_drop_option,
    "balance": plan_balance,
    "tproxy": plan_tproxy,
    "tracker": plan_tracker,
    "flip": plan_flip,
    "count": plan_count,
    "link_down": plan_link_down,
    "link_up": plan_link_up,
    "address_remove": plan_address_remove,
    "rate": plan_rate,
    "netem": plan_netem,
    "endpoint_remove": plan_endpoint_remove,
    "endpoint_change": plan_endpoint_change,
    "endpoint_add": plan_endpoint_add,
    "endpoints": plan_endpoints,
    "limits": plan_limits,
    "sysctl": plan_sysctl,
    "routes": plan_routes,
    "rules": plan_rules,
    "stall": plan_stall,
    "kill": plan_kill,
    "unit_stop": plan_unit_stop,
    "socket_unit": plan_socket_unit,
}


def apply_fault(kind: str, ttl: float, params: Json, run: str) -> str:
    """Record the undo steps, start keeper and timer, apply the fault for `ttl` seconds, and return its id.

    Raises ValueError for an unknown kind or a `ttl` out of range, AgentError "no-lease" if `run` does not
    hold this host's lease, and AgentError "conflict" if another fault touches the same object.
    """
    if kind not in PLANS:
        raise ValueError(f"fault {kind!r}: use one of {', '.join(PLANS)}")
    if not TTL_RANGE[0] <= ttl <= TTL_RANGE[1]:
        raise ValueError(f"ttl {ttl}: use {TTL_RANGE[0]:g} to {TTL_RANGE[1]:g} s")
    require_lease(run)
    fault = os.urandom(4).hex()
    record_file = FAULTS / f"{fault}.json"
    with fault_lock():
        plan = PLANS[kind](fault, **params)
        for other in read_faults():
            if do_overlap(other["touches"], plan.touches):
                raise AgentError(
                    "conflict", f"fault {other['kind']} ({other['id']}) touches {other['touches']} already"
                )
        now = time.monotonic()
        record: Json = {"id": fault, "kind": kind, "params": params, "owner": os.getpid(), "run": run}
        record |= {"touches": plan.touches, "undo": plan.undo}
        write_synced(record_file, {**record, "since": now, "deadline": now + ttl, "tries": 0, "error": ""})
        try:
            ensure_keeper()
            arm_timer(fault, ttl)
            plan.apply()
            if not record_file.exists():  # this process was frozen, and the keeper has lifted the fault
                run_undo(plan.undo)
        except BaseException:
            undo_and_forget(record_file)
            raise
    return fault


def change_endpoints(command: str, endpoint: Json | None = None) -> None:
    """Run an endpoint command of `ip mptcp`: "add", "delete", "change" (of flags) or "flush".

    Raises AgentError "refused" unless a fault "endpoints" of this process is in force, which undoes it.
    """
    with fault_lock():
        held = [each for each in read_faults() if each["owner"] == os.getpid()]
        if not any(each["touches"] == ENDPOINTS for each in held):
            raise AgentError("refused", 'endpoints are changed only while a fault "endpoints" is in force')
        with PathManager() as manager:
            if command == "flush":
                manager.flush()
            else:
                actions = {"add": manager.add, "delete": manager.delete, "change": manager.set_flags}
                actions[command](endpoint or {})


def keep_keeper() -> None:
    """Restart the keeper, on a host without systemd, if it has ended while faults are in force."""
    if not SYSTEMD.is_dir() and FAULTS.is_dir() and read_faults():
        with contextlib.suppress(AgentError, OSError), fault_lock():
            if read_faults():
                ensure_keeper()


class AppliedFault:
    """A fault that this probe applied; it is lifted when the probe ends."""

    def __init__(self, fault: str) -> None:
        self.fault = fault

    def close(self) -> bool:
        """Lift the fault; return False if it was lifted before, because its time was over."""
        return lift_fault(self.fault)


def recover_faults() -> list[Json]:
    """Lift the expired faults of earlier probes, ensure a keeper for the others, and return all of them.

    A probe calls this when it starts.
    """
    if not FAULTS.is_dir():
        return []
    found = []
    for record in read_faults():
        expired = record["deadline"] <= time.monotonic()
        if expired:
            with contextlib.suppress(AgentError, OSError):
                lift_fault(record["id"])
        found.append(
            {"id": record["id"], "kind": record["kind"], "params": record["params"], "expired": expired}
        )
    with fault_lock():
        if read_faults():
            ensure_keeper()
    return found
