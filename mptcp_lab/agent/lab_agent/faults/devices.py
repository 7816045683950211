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
    """The step that brings back what a device loses when it goes down or loses an address."""
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
    """Take a NIC down."""
    refuse_management(device)
    return Plan(
        f"device {device}", device_undo(device), lambda: run_tool(["ip", "link", "set", device, "down"])
    )


def plan_link_up(_fault: str, device: str, address: str | None = None) -> Plan:
    """Bring up a NIC that is down; afterwards it is down again.

    `address`, one of its own, comes after the link, as from DHCP: daemons hear of it by that event.
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
    """The steps that bring the limits and the endpoints of a device's addresses back.

    A daemon (seen of mptcpd 0.13) makes endpoints and raises limits for a device that comes up, and leaves
    both when it goes down.
    """
    with contextlib.suppress(AgentError), PathManager() as manager:
        known = {endpoint["address"]: endpoint for endpoint in manager.endpoints()}
        addresses = [argv[0].partition("/")[0] for argv in device_addresses(device)]
        endpoints = [("endpoint", {"address": each, "before": known.get(each)}) for each in addresses]
        return [("limits", manager.limits()), *endpoints]
    return []


def matching_address(device: str, address: str) -> list[str]:
    """An address of a NIC with its prefix length, as `ip address` takes it."""
    for argv in device_addresses(device):
        if argv[0].partition("/")[0] == address.partition("/")[0]:
            return argv
    raise AgentError("refused", f"{device} has no address {address}")


def plan_address_remove(_fault: str, device: str, address: str) -> Plan:
    """Remove an address from a NIC."""
    refuse_management(device)
    matching = matching_address(device, address)[0]
    return Plan(
        f"device {device}",
        device_undo(device),
        lambda: run_tool(["ip", "address", "del", matching, "dev", device]),
    )


def qdisc_fault(device: str, kind: str, options: list[str]) -> Plan:
    """A root qdisc on a NIC that has none but the kernel's default."""
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
    """Limit what leaves by a NIC."""
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
    _fault: str, device: str, delay_ms: float = 0, jitter_ms: float = 0, loss_percent: float = 0
) -> Plan:
    """Delay or lose what leaves by a NIC."""
    options = ["delay", f"{float(delay_ms)}ms", f"{float(jitter_ms)}ms", "loss", f"{float(loss_percent)}%"]
    return qdisc_fault(device, "netem", options)
