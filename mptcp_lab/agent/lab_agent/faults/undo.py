"""The steps that undo faults. Each can run twice, and also if its fault was never applied."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..basics import AgentError, Json
from ..kernel.host import PROC_SYS
from ..kernel.path_manager import PathManager
from ..tools import run_tool
from .reads import device_addresses, process_started, root_qdisc, route_key, route_lines, rule_lines

TABLE = re.compile(r"mptcp_lab_[0-9a-f]{8}")
FAMILY = re.compile("-[46]")
DEVICE = re.compile(r"[^-/\s][^/\s]{0,14}")
SOCKET_UNIT = re.compile("mptcp-lab-[0-9a-f]{8}")
UNIT = re.compile(r"[A-Za-z0-9_@:.\\][A-Za-z0-9_@:.\\-]*")
SIGNALS = (signal.SIGCONT, signal.SIGSTOP)


def require_match(pattern: re.Pattern[str], text: str, what: str) -> None:
    """Raise AgentError "refused" for text that no fault of the probe would have recorded."""
    if not pattern.fullmatch(text):
        raise AgentError("refused", f"{text!r} is no {what} that a fault of the lab changes")


def sysctl_path(name: str) -> Path:
    """Return the resolved path of a sysctl; raise AgentError "refused" unless it is below /proc/sys/net."""
    path = Path(os.path.realpath(name))
    root = PROC_SYS / "net"
    if root not in path.parents:
        raise AgentError("refused", f"{name} does not lie below {root}: the undo does not write there")
    return path


def undo_nft_table(name: str) -> None:
    """Delete a table; it is no error if there is none."""
    require_match(TABLE, name, "table")
    run_tool(["nft", f"add table inet {name}; delete table inet {name}"])


def undo_device(device: str, up: bool, addresses: list[list[str]], routes: list[list[str]]) -> None:
    """Set a device up if it was up, and add the addresses and routes that are missing."""
    require_match(DEVICE, device, "device")
    if up:
        run_tool(["ip", "link", "set", device, "up"])
    present = [argv[0] for argv in device_addresses(device)]
    for argv in addresses:
        if argv[0] not in present:
            run_tool(["ip", "address", "replace", *argv, "dev", device])
    for family in ("-4", "-6"):
        there = route_lines(family)
        missing = [line for kind, line in routes if kind == family and line not in there]
        for line in sorted(missing, key=lambda text: " via " in text):  # a gateway needs its link route first
            run_tool(["ip", family, "route", "append", *line.split()])


def undo_link_up(device: str) -> None:
    """Set a device down."""
    require_match(DEVICE, device, "device")
    run_tool(["ip", "link", "set", device, "down"])


def undo_endpoint(address: str, before: Json | None) -> None:
    """Restore the endpoint with this address, or delete it if there was none before."""
    with PathManager() as manager:
        now = {endpoint["address"]: endpoint for endpoint in manager.endpoints()}.get(address)
        # A join to an address without an endpoint creates an implicit one; set_flags cannot make it normal.
        if now and (before is None or before["id"] != now["id"] or "implicit" in now["flags"]):
            manager.delete(now)
            now = None
        if before and not now:
            for other in manager.endpoints():  # an implicit endpoint may have got the id in the meantime
                if other["id"] == before["id"] and "implicit" in other["flags"]:
                    manager.delete(other)
            manager.add(before)
        elif before and now and before["flags"] != now["flags"]:
            manager.set_flags(before)


def undo_endpoints(before: list[Json]) -> None:
    """Restore all endpoints, with their ids and in their order; those that the kernel made are not added."""
    wanted = [endpoint for endpoint in before if "implicit" not in endpoint["flags"]]
    with PathManager() as manager:
        if manager.endpoints() != wanted:
            manager.flush()
            for endpoint in wanted:
                manager.add(endpoint)


def undo_limits(subflows: int, add_addr_accepted: int) -> None:
    """Restore the MPTCP limits."""
    with PathManager() as manager:
        manager.set_limits(subflows, add_addr_accepted)


def undo_sysctls(values: dict[str, str]) -> None:
    """Restore the sysctls (by path) whose values differ."""
    paths = {sysctl_path(name): value for name, value in values.items()}
    for path, value in paths.items():
        if path.exists() and path.read_text().strip() != value:
            path.write_text(value)


def undo_routes(family: str, keys: list[list[str]], lines: list[str]) -> None:
    """Restore the routes of these (destination, table) pairs: delete new ones, add missing ones."""
    require_match(FAMILY, family, "family")
    wanted = [tuple(key) for key in keys]
    now = [line for line in route_lines(family) if route_key(line) in wanted]
    for line in now:
        if line not in lines:
            run_tool(["ip", family, "route", "del", *line.split()])
    for line in lines:
        if line not in now:
            run_tool(["ip", family, "route", "append", *line.split()])


def undo_rules(family: str, lines: list[str]) -> None:
    """Restore the policy rules of a family: delete new ones, add missing ones."""
    require_match(FAMILY, family, "family")
    now = rule_lines(family)
    for line in now:
        if line not in lines:
            run_tool(["ip", family, "rule", "del", *line.split()])
    for line in lines:
        if line not in now:
            run_tool(["ip", family, "rule", "add", *line.split()])


def undo_qdisc(device: str, kind: str) -> None:
    """Remove the root qdisc if it is of this kind; the kernel then restores its default."""
    require_match(DEVICE, device, "device")
    if root_qdisc(device)["kind"] == kind:
        run_tool(["tc", "qdisc", "del", "dev", device, "root"])


def undo_signal(number: int, unit: str | None = None, pid: int | None = None, started: str = "") -> None:
    """Send a signal to a unit's processes, or to one process unless its id has been reused."""
    if number not in SIGNALS:
        raise AgentError("refused", f"signal {number}: a fault of the lab stops processes and continues them")
    if unit is not None:
        require_match(UNIT, unit, "unit")
        run_tool(["systemctl", "kill", f"--signal={number}", unit])
    elif pid is not None and process_started(pid) == started:
        os.kill(pid, number)


def undo_unit(unit: str) -> None:
    """Start a unit again, also if it failed or was stopped."""
    require_match(UNIT, unit, "unit")
    with contextlib.suppress(AgentError):  # reset-failed fails for a unit that is not loaded any more
        run_tool(["systemctl", "reset-failed", unit])
    run_tool(["systemctl", "start", unit])


def undo_socket_unit(name: str) -> None:
    """Stop a transient socket unit and its service, after which systemd forgets them."""
    require_match(SOCKET_UNIT, name, "unit")
    for unit in (f"{name}.socket", f"{name}.service"):
        with contextlib.suppress(AgentError):  # a unit that never started is not loaded
            run_tool(["systemctl", "stop", unit])


UNDO: dict[str, Callable[..., None]] = {
    "nft_table": undo_nft_table,
    "device": undo_device,
    "link_up": undo_link_up,
    "endpoint": undo_endpoint,
    "endpoints": undo_endpoints,
    "limits": undo_limits,
    "sysctls": undo_sysctls,
    "routes": undo_routes,
    "rules": undo_rules,
    "qdisc": undo_qdisc,
    "signal": undo_signal,
    "unit": undo_unit,
    "socket_unit": undo_socket_unit,
}


def run_undo(steps: list[Any]) -> None:
    """Run undo steps, the last one first."""
    for name, args in reversed(steps):
        UNDO[name](**args)
