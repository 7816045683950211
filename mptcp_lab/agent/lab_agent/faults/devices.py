"""Faults of NICs: links, addresses, queues."""

from __future__ import annotations

import contextlib

from ..basics import AgentError, Json
from ..kernel.capabilities import require
from ..kernel.path_manager import PathManager
from ..tools import read_link, run_tool
from .plan import Plan, refuse_management
from .reads import device_addresses, root_qdisc, route_lines


def device_undo(device: str) -> list[tuple[str, Json]]:
    """Return the undo step that restores all that a device loses when it goes down or loses an address."""
    addresses = device_addresses(device)
    marks = [f" dev {device} "] + [f" src {argv[0].partition('/')[0]} " for argv in addresses]
    routes = [
        [family, line]
        for family in ("-4", "-6")
        for line in route_lines(family)
        if any(mark in f"{line} " for mark in marks)
    ]
    undo = {
        "device": device,
        "up": "UP" in read_link(device)["flags"],
        "addresses": addresses,
        "routes": routes,
    }
    return [("device", undo)]


def plan_link_down(_fault: str, device: str) -> Plan:
    """Plan to set a NIC down."""
    refuse_management(device)
    return Plan(
        f"device {device}", device_undo(device), lambda: run_tool(["ip", "link", "set", device, "down"])
    )


def plan_link_up(_fault: str, device: str, address: str | None = None) -> Plan:
    """Plan to set a NIC up that is down; the undo sets it down again.

    `address`, which the NIC must have, is removed first and added again when the link is up, as DHCP would
    do: daemons learn of it by that event. Raises AgentError "refused" if the NIC is up.
    """
    refuse_management(device)
    if "UP" in read_link(device)["flags"]:
        raise AgentError("refused", f"{device} is up already")
    later = [] if address is None else [matching_address(device, address)]

    def apply() -> None:
        for argv in later:
            run_tool(["ip", "address", "del", argv[0], "dev", device])
        run_tool(["ip", "link", "set", device, "up"])
        for argv in later:
            run_tool(["ip", "address", "replace", *argv, "dev", device])

    undo = [*endpoints_undo(device), *device_undo(device), ("link_up", {"device": device})]
    return Plan(f"device {device}", undo, apply)


def endpoints_undo(device: str) -> list[tuple[str, Json]]:
    """Return the undo steps that restore the limits and the endpoints of a device's addresses.

    A daemon (mptcpd 0.13 was seen to do so) creates endpoints and raises limits for a device that comes up,
    and does not remove them when it goes down. The list is empty on a kernel without a path manager.
    """
    with contextlib.suppress(AgentError), PathManager() as manager:
        known = {endpoint["address"]: endpoint for endpoint in manager.endpoints()}
        addresses = [argv[0].partition("/")[0] for argv in device_addresses(device)]
        endpoints = [("endpoint", {"address": each, "before": known.get(each)}) for each in addresses]
        return [("limits", manager.limits()), *endpoints]
    return []


def matching_address(device: str, address: str) -> list[str]:
    """Return an address of a NIC as arguments of `ip address`; raise AgentError "refused" if it has none."""
    for argv in device_addresses(device):
        if argv[0].partition("/")[0] == address.partition("/")[0]:
            return argv
    raise AgentError("refused", f"{device} has no address {address}")


def plan_address_remove(_fault: str, device: str, address: str) -> Plan:
    """Plan to remove an address from a NIC."""
    refuse_management(device)
    matching = matching_address(device, address)[0]
    return Plan(
        f"device {device}",
        device_undo(device),
        lambda: run_tool(["ip", "address", "del", matching, "dev", device]),
    )


def qdisc_fault(device: str, kind: str, options: list[str]) -> Plan:
    """Plan to add a root qdisc to a NIC; raise AgentError "refused" if it has one besides the default."""
    refuse_management(device)
    require(kind)
    present = root_qdisc(device)
    if present["handle"] != "0:":
        raise AgentError(
            "refused", f"{device} has a {present['kind']} qdisc already; a fault does not replace it"
        )
    argv = ["tc", "qdisc", "add", "dev", device, "root", kind, *options]
    return Plan(f"qdisc {device}", [("qdisc", {"device": device, "kind": kind})], lambda: run_tool(argv))


def plan_rate(_fault: str, device: str, mbit: float, burst_kb: int = 32, latency_ms: float = 50) -> Plan:
    """Plan to limit the rate (Mbit/s) of the traffic that leaves through a NIC."""
    options = [
        "rate",
        f"{round(mbit * 1e6)}bit",
        "burst",
        f"{int(burst_kb)}k",
        "latency",
        f"{float(latency_ms)}ms",
    ]
    return qdisc_fault(device, "tbf", options)


def plan_netem(
    _fault: str,
    device: str,
    delay_ms: float = 0,
    jitter_ms: float = 0,
    loss_percent: float = 0,
    mbit: float = 0,
) -> Plan:
    """Plan to delay (ms), drop (per cent) or send at a rate (Mbit/s) the packets that leave through a NIC."""
    options = ["delay", f"{float(delay_ms)}ms", f"{float(jitter_ms)}ms", "loss", f"{float(loss_percent)}%"]
    if mbit:
        options += ["rate", f"{round(mbit * 1e6)}bit"]
    return qdisc_fault(device, "netem", options)
