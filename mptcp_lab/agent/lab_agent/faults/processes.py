"""Faults that stop or kill processes and systemd units."""

from __future__ import annotations

import signal

from ..basics import AgentError, Json
from ..tools import run_tool
from .plan import Plan, require_unit
from .reads import process_started
from .undo import undo_signal


def plan_stall(_fault: str, unit: str | None = None, pid: int | None = None) -> Plan:
    """Plan to stop the processes of a unit, or one process, with SIGSTOP; the undo sends SIGCONT."""
    if unit is not None:
        require_unit(unit)
    elif pid is None or not process_started(pid):
        raise AgentError("refused", f"give a unit, or a process that runs (pid is {pid})")
    who: Json = {"unit": unit, "pid": pid, "started": "" if pid is None else process_started(pid)}
    undo: list[tuple[str, Json]] = [("signal", {"number": int(signal.SIGCONT), **who})]
    return Plan(f"process {unit or pid}", undo, lambda: undo_signal(int(signal.SIGSTOP), **who))


def plan_kill(_fault: str, unit: str) -> Plan:
    """Plan to kill the processes of a unit (SIGKILL); the undo starts it unless systemd has done so."""
    require_unit(unit)
    argv = ["systemctl", "kill", "--signal=KILL", unit]
    return Plan(f"process {unit}", [("unit", {"unit": unit})], lambda: run_tool(argv))


def plan_unit_stop(_fault: str, unit: str) -> Plan:
    """Plan to stop a unit; the undo starts it again."""
    require_unit(unit)
    return Plan(f"process {unit}", [("unit", {"unit": unit})], lambda: run_tool(["systemctl", "stop", unit]))
