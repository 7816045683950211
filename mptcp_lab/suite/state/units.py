"""Derive from a host's services which systemd units and listeners it must have."""

from __future__ import annotations

from collections.abc import Iterator, Set

from mptcp_lab.inventory.engines import ENGINES
from mptcp_lab.inventory.model import Host, Lab, Service
from mptcp_lab.probe import Probe

NETWORK = ("mptcp-lab-network", "mptcp-lab-mptcp")
#: Listening sockets, as (address, port).
Listeners = Set[tuple[str, int]]
#: By the shape of a listener on all addresses: what ``ss`` prints as its address.
PRINTED = {"wildcard": "0.0.0.0", "dual-stack": "*", "ipv6-only": "::"}  # noqa: S104 (compared, not bound)


def units(host: Host) -> list[str]:
    """Return the systemd units that a host needs for its part in the lab."""
    names = [*NETWORK]
    for service in host.services:
        unit = ENGINES[service.engine].unit_of(service.name)
        if unit not in names:
            names.append(unit)
    return names


def engine_of(unit: str) -> str:
    """Return the engine whose services a unit runs."""
    name, at, instance = unit.partition("@")
    return next(
        engine.name for engine in ENGINES.values() if engine.unit_of(instance) == name + at + instance
    )


def listeners(probe: Probe) -> tuple[set[tuple[str, int]], set[tuple[str, int]]]:
    """Return the MPTCP listeners, and all TCP listeners (including MPTCP ones), as (address, port).

    Both come from socket diagnostics: a listening socket has one protocol or the other, and cannot have
    fallen back.
    """
    return _listening(probe, "-M"), _listening(probe, "-t")


def _listening(probe: Probe, kind: str) -> set[tuple[str, int]]:
    return parse_listeners(probe.run(["ss", "-Hln", kind]).stdout)


def parse_listeners(printed: str) -> set[tuple[str, int]]:
    """Return the listeners in the output of ``ss -Hln``, with addresses without brackets and device."""
    found = set()
    for line in printed.splitlines():
        words = line.split()
        address, _, port = words[3].rpartition(":") if len(words) > 3 else ("", "", "")
        if port.isdecimal():
            found.add((address.strip("[]").partition("%")[0], int(port)))
    return found


def wrong_listeners(lab: Lab, host: Host, mptcp: Listeners, tcp: Listeners) -> list[str]:
    """Return each listener that is not as the inventory asks, with what is there instead.

    Every address of the host on which a service listens is checked, over IPv4 and IPv6. A forwarder has no
    listeners.
    """
    return [f"{host.name}: {what}" for _, what in _wrong_listeners(lab, host, mptcp, tcp)]


def services_without_listener(lab: Lab, host: Host, mptcp: Listeners, tcp: Listeners) -> dict[Service, str]:
    """Return the services that do not listen as the inventory asks, each with its first wrong listener."""
    found: dict[Service, str] = {}
    for service, what in _wrong_listeners(lab, host, mptcp, tcp):
        found.setdefault(service, what)
    return found


def _wrong_listeners(lab: Lab, host: Host, mptcp: Listeners, tcp: Listeners) -> Iterator[tuple[Service, str]]:
    for service in host.services:
        for address in listening_addresses(lab, host, service):
            each, wanted = (address, service.port), "TCP" if service.mptcp == "off" else "MPTCP"
            found = "MPTCP" if each in mptcp else "TCP" if each in tcp else "nothing"
            if found != wanted:
                where = f"{service.name} on {address} port {service.port}"
                yield service, f"{where} is to be {wanted} (mptcp: {service.mptcp}), {found} listens"


def listening_addresses(lab: Lab, host: Host, service: Service) -> list[str]:
    """Return the addresses on which a service listens, as ``ss`` prints them without brackets.

    Without `listen` in the inventory they are those of NICs that are up, on segments of the engine's kinds.
    """
    kinds = ENGINES[service.engine].listens_on
    if service.listen in PRINTED and kinds:
        return [PRINTED[service.listen]]
    if service.listen_on:
        return list(service.listen_on)
    return [
        str(address)
        for nic in host.nics
        if nic.up and lab.segments[nic.segment].kind in kinds
        for family in (4, 6)
        if (address := nic.address(family))
    ]
