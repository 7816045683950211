"""Which systemd units and listeners a host has, by its services."""

from __future__ import annotations

from mptcp_lab.inventory.model import Host, Service
from mptcp_lab.probe import Probe

NETWORK = ("mptcp-lab-network", "mptcp-lab-mptcp")
ENGINE_UNITS = {"haproxy": "haproxy", "nginx": "nginx", "forwarder": "mptcp-lab-forward"}


def units(host: Host) -> list[str]:
    """Return the units that make a host what it is in the lab."""
    names = [*NETWORK]
    for service in host.services:
        unit = ENGINE_UNITS.get(service.engine) or f"mptcp-lab-origin@{service.name}"
        if unit not in names:
            names.append(unit)
    return names


def engine_of(unit: str) -> str:
    """Return the engine whose services a unit runs."""
    return next((engine for engine, name in ENGINE_UNITS.items() if name == unit), "origin")


def find_missing_listeners(
    host: Host, mptcp: set[tuple[str, int]], tcp: set[tuple[str, int]]
) -> dict[Service, str]:
    """Return the services that do not listen as the inventory says, each with what was expected, in words."""
    missing = {}
    for service in host.services:
        if service.engine == "forwarder":
            continue  # forwards packets: listens to nothing
        ports = {port for _, port in (mptcp if service.mptcp != "off" else tcp - mptcp)}
        if service.port not in ports:
            missing[service] = f"{service.name}, port {service.port}, mptcp: {service.mptcp}"
    return missing


def listeners(probe: Probe) -> tuple[set[tuple[str, int]], set[tuple[str, int]]]:
    """Return the MPTCP listeners, and all TCP listeners (MPTCP ones too), each as (address, port).

    From socket diagnostics: a listening socket is of one protocol or the other, it cannot have fallen back.
    """
    return _listening(probe, "-M"), _listening(probe, "-t")


def _listening(probe: Probe, kind: str) -> set[tuple[str, int]]:
    return parse_listeners(probe.run(["ss", "-Hln", kind]).stdout)


def parse_listeners(printed: str) -> set[tuple[str, int]]:
    """Return address and port of every listener that `ss -Hln` printed."""
    found = set()
    for line in printed.splitlines():
        words = line.split()
        address, _, port = words[3].rpartition(":") if len(words) > 3 else ("", "", "")
        if port.isdecimal():
            found.add((address, int(port)))
    return found
