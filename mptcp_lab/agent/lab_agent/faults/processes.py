"""Faults that stop or kill processes and systemd units, and one that adds a socket unit."""

from __future__ import annotations

import signal
from pathlib import Path

from ..basics import AgentError, Json
from ..tools import run_tool
from .plan import Plan, require_unit
from .reads import process_started
from .undo import undo_signal

#: systemd's own program that passes the connections of a socket unit on to another address.
SOCKET_PROXY = Path("/usr/lib/systemd/systemd-socket-proxyd")


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


def plan_socket_unit(fault: str, listen: list[str], to: str, protocol: str = "mptcp") -> Plan:
    """Plan a transient socket unit that listens on "ADDRESS:PORT"s; its service passes connections on to one.

    `protocol` is the unit's SocketProtocol=, or "" for none: the socket is then plain TCP. Raises AgentError
    "unsupported" if systemd does not know the protocol (mptcp: before 257) or has no program to pass
    connections on.
    """
    if not Path("/run/systemd/system").is_dir() or not SOCKET_PROXY.exists():
        raise AgentError("unsupported", f"there is no {SOCKET_PROXY}", capability="systemd socket units")
    name = f"mptcp-lab-{fault}"
    properties = [f"ListenStream={address}" for address in listen] + ["FreeBind=no"]
    if protocol:
        properties.append(f"SocketProtocol={protocol}")
    argv = ["systemd-run", "--quiet", "--collect", f"--unit={name}"]
    argv += [f"--socket-property={each}" for each in properties] + [str(SOCKET_PROXY), to]

    def apply() -> None:
        try:
            run_tool(argv)
        except AgentError as error:
            if protocol and "SocketProtocol" in str(error):
                reason, capability = str(error), f"systemd with SocketProtocol={protocol}"
                raise AgentError("unsupported", reason, capability=capability) from None
            raise

    return Plan(f"unit {name}", [("socket_unit", {"name": name})], apply)
