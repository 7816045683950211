"""Faults that change settings: endpoints, limits, sysctls, routes, rules."""

from __future__ import annotations

from collections.abc import Callable

from ..basics import AgentError, Json
from ..kernel.host import PROC_SYS
from ..kernel.path_manager import PathManager
from ..tools import run_tool
from .plan import ENDPOINTS, Plan
from .reads import route_key, route_lines, rule_lines


def find_endpoint(address: str) -> Json | None:
    """Return the MPTCP endpoint with this address, or None."""
    with PathManager() as manager:
        return {endpoint["address"]: endpoint for endpoint in manager.endpoints()}.get(address)


def _present_endpoint(address: str) -> Json:
    endpoint = find_endpoint(address)
    if endpoint is None:
        raise AgentError("refused", f"there is no endpoint {address}")
    return endpoint


def _with_path_manager(action: Callable[[PathManager], None]) -> Callable[[], None]:
    def apply() -> None:
        with PathManager() as manager:
            action(manager)

    return apply


def plan_endpoint_remove(_fault: str, address: str) -> Plan:
    """Plan to remove an MPTCP endpoint."""
    before = _present_endpoint(address)
    undo: list[tuple[str, Json]] = [("endpoint", {"address": address, "before": before})]
    return Plan(f"endpoint {address}", undo, _with_path_manager(lambda manager: manager.delete(before)))


def plan_endpoint_change(_fault: str, address: str, flags: list[str]) -> Plan:
    """Plan to change "backup" and "fullmesh" of an MPTCP endpoint; `flags` is the complete new list."""
    before = _present_endpoint(address)
    undo: list[tuple[str, Json]] = [("endpoint", {"address": address, "before": before})]
    after = {**before, "flags": flags}
    return Plan(f"endpoint {address}", undo, _with_path_manager(lambda manager: manager.set_flags(after)))


def plan_endpoint_add(
    _fault: str, address: str, device: str = "", flags: tuple[str, ...] = (), port: int = 0
) -> Plan:
    """Plan to add an MPTCP endpoint; raise AgentError "refused" if the address has one."""
    undo: list[tuple[str, Json]] = [("endpoint", {"address": address, "before": None})]
    if find_endpoint(address) is not None:
        raise AgentError("refused", f"there is an endpoint {address} already")
    new = {"address": address, "device": device, "flags": list(flags), "port": port}
    return Plan(f"endpoint {address}", undo, _with_path_manager(lambda manager: manager.add(new)))


def plan_endpoints(_fault: str, endpoints: list[Json] | None = None) -> Plan:
    """Plan to replace all MPTCP endpoints by these; None keeps them.

    While the fault is in force, its probe may change endpoints one by one (`change_endpoints`).
    """
    with PathManager() as manager:
        before = manager.endpoints()

    def apply(manager: PathManager) -> None:
        if endpoints is not None:
            manager.flush()
            for endpoint in endpoints:
                manager.add(endpoint)

    return Plan(ENDPOINTS, [("endpoints", {"before": before})], _with_path_manager(apply))


def plan_limits(_fault: str, subflows: int | None = None, add_addr_accepted: int | None = None) -> Plan:
    """Plan to change the MPTCP limits; None keeps a limit as it is."""
    with PathManager() as manager:
        before = manager.limits()
    first = before["subflows"] if subflows is None else subflows
    second = before["add_addr_accepted"] if add_addr_accepted is None else add_addr_accepted
    return Plan(
        "limits", [("limits", before)], _with_path_manager(lambda manager: manager.set_limits(first, second))
    )


def plan_sysctl(_fault: str, name: str, value: str | int) -> Plan:
    """Plan to change a sysctl below net; the undo also restores the sysctls that the kernel changes with it.

    Raises AgentError "refused" for other sysctls, and "unsupported" if the kernel does not have it.
    """
    path = PROC_SYS.joinpath(*(part.replace("/", ".") for part in name.split(".")))
    if not name.startswith("net.") or ".." in path.parts:
        raise AgentError("refused", f"{name}: there is no such sysctl below net")
    if not path.exists():
        raise AgentError("unsupported", "this kernel does not have it", capability=f"sysctl {name}")
    related = [path]
    if path.name in ("ip_forward", "forwarding"):
        family = "ipv6" if "ipv6" in path.parts else "ipv4"
        for other in ("forwarding", "accept_redirects"):
            related += sorted((PROC_SYS / "net" / family / "conf").glob(f"*/{other}"))
    values = {str(one): one.read_text().strip() for one in related}
    return Plan(f"sysctl {name}", [("sysctls", {"values": values})], lambda: path.write_text(str(value)))


def _family(version: int) -> str:
    return {4: "-4", 6: "-6"}[version]


def plan_routes(_fault: str, commands: list[str], version: int = 4) -> Plan:
    """Plan to run `ip route COMMAND` for commands such as "add ...", "del ..." or "replace ...".

    Each command starts with the destination and names the table (else main): the undo restores the routes of
    these pairs. `version` is the IP version, 4 or 6.
    """
    family = _family(version)
    keys = [route_key(command.partition(" ")[2]) for command in commands]
    lines = [line for line in route_lines(family) if route_key(line) in keys]

    def apply() -> None:
        for command in commands:
            run_tool(["ip", family, "route", *command.split()])

    return Plan(f"routes {family}", [("routes", {"family": family, "keys": keys, "lines": lines})], apply)


def plan_rules(_fault: str, commands: list[str], version: int = 4) -> Plan:
    """Plan to run `ip rule COMMAND` ("add ...", "del ..."); the undo restores all rules of the IP version."""
    family = _family(version)

    def apply() -> None:
        for command in commands:
            run_tool(["ip", family, "rule", *command.split()])

    return Plan(f"rules {family}", [("rules", {"family": family, "lines": rule_lines(family)})], apply)
