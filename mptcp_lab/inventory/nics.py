"""Build `Segment` and `Nic` objects from an inventory's variables."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

from mptcp_lab.inventory import fields
from mptcp_lab.inventory.errors import InventoryError
from mptcp_lab.inventory.model import WITHOUT_ENDPOINTS, Host, Nic, Segment
from mptcp_lab.inventory.variables import CONTROL

KINDS = ("path", "core")
#: All flags of MPTCP endpoints (include/uapi/linux/mptcp_pm.h), and the defaults for clients and servers.
ENDPOINT_FLAGS = ("signal", "subflow", "backup", "fullmesh", "laminar")
CLIENT_ENDPOINT, SERVER_ENDPOINT = ("subflow", "fullmesh"), ("signal",)
#: The limit of the in-kernel path manager (MPTCP_PM_ADDR_MAX, net/mptcp/pm_kernel.c).
MAX_ENDPOINTS = 8
MAX_NICS = 64
NIC_KEYS = "segment device ipv4 ipv6 rate state unplug plug endpoint"
NIC_EXAMPLE = "{segment: path1, device: eth1, ipv4: 198.18.1.10/24, ipv6: '2001:db8:1::10/64'}"
CABLE_EXAMPLE = "unplug: ssh switch1 port 5 down, plug: ssh switch1 port 5 up"
SEGMENT_EXAMPLE = "path1: {kind: path, ipv4: 198.18.1.0/24, ipv6: '2001:db8:1::/64'}"
ENDPOINT_EXAMPLE = "endpoint: [subflow, fullmesh, backup]"


def segments_from(value: Any, host: str) -> dict[str, Segment]:
    """Return the segments by name; ``host`` is a host with these variables, named in error messages."""
    segments: dict[str, Segment] = {}
    for name, raw in fields.mapping(host, "lab_segments", value, SEGMENT_EXAMPLE).items():
        variable = f"lab_segments.{name}"
        entry = fields.mapping(host, variable, raw, SEGMENT_EXAMPLE)
        fields.known_keys(host, variable, entry, "kind ipv4 ipv6", SEGMENT_EXAMPLE)
        fields.name(host, variable, name, "path1", longest=15)
        kind = fields.choice(host, f"{variable}.kind", entry.get("kind", "path"), KINDS)
        ipv4 = fields.network(host, f"{variable}.ipv4", entry.get("ipv4"), 4, SEGMENT_EXAMPLE)
        ipv6 = fields.network(host, f"{variable}.ipv6", entry.get("ipv6"), 6, SEGMENT_EXAMPLE)
        if ipv4 is None and ipv6 is None:
            raise InventoryError(host, variable, "neither ipv4 nor ipv6 is given", SEGMENT_EXAMPLE)
        segments[name] = Segment(name, kind, ipv4, ipv6)
    _check_overlaps(host, segments)
    return segments


def _check_overlaps(host: str, segments: Mapping[str, Segment]) -> None:
    for one, other in combinations(segments.values(), 2):
        for version, mine, theirs in ((4, one.ipv4, other.ipv4), (6, one.ipv6, other.ipv6)):
            if mine is not None and theirs is not None and mine.overlaps(theirs):
                problem = f"{theirs} overlaps {one.name} ({mine})"
                variable = f"lab_segments.{other.name}.ipv{version}"
                raise InventoryError(host, variable, problem, "198.18.2.0/24 beside 198.18.1.0/24")


def nics_from(
    host: str, variables: Mapping[str, Any], segments: Mapping[str, Segment], endpoint: tuple[str, ...]
) -> tuple[Nic, ...]:
    """Return a host's NICs; ``endpoint`` holds the flags of NICs for which the inventory has none."""
    nics: list[Nic] = []
    management = variables.get("lab_mgmt_device")
    if management is not None:
        fields.device(host, "lab_mgmt_device", management, "eno1")
    endpoint = _endpoint(host, "lab_endpoint_flags", variables.get("lab_endpoint_flags", endpoint))
    listed = fields.entries(host, "lab_nics", variables.get("lab_nics"), NIC_EXAMPLE)
    if not listed or len(listed) > MAX_NICS:
        problem = f"{len(listed)} NICs; a host has 1 to {MAX_NICS}"
        raise InventoryError(host, "lab_nics", problem, f"[{NIC_EXAMPLE}]")
    for i, entry in enumerate(listed):
        nic = _nic(host, f"lab_nics[{i}]", {"endpoint": endpoint, **entry}, segments)
        if any(other.device == nic.device for other in nics):
            raise InventoryError(host, f"lab_nics[{i}].device", f"{nic.device} is listed twice", NIC_EXAMPLE)
        if nic.device == management:
            problem = f"{nic.device} is the management NIC (lab_mgmt_device), which the lab never touches"
            raise InventoryError(host, f"lab_nics[{i}].device", problem, NIC_EXAMPLE)
        nics.append(nic)
    return tuple(nics)


def _nic(host: str, variable: str, entry: Mapping[str, Any], segments: Mapping[str, Segment]) -> Nic:
    fields.known_keys(host, variable, entry, NIC_KEYS, NIC_EXAMPLE)
    device = fields.device(host, f"{variable}.device", entry.get("device"), NIC_EXAMPLE)
    segment = _segment(host, f"{variable}.segment", entry.get("segment"), segments)
    ipv4 = fields.interface(host, f"{variable}.ipv4", entry.get("ipv4"), 4, NIC_EXAMPLE)
    ipv6 = fields.interface(host, f"{variable}.ipv6", entry.get("ipv6"), 6, NIC_EXAMPLE)
    for given, network in ((ipv4, segment.ipv4), (ipv6, segment.ipv6)):
        if given is None:
            continue
        where = f"{variable}.ipv{given.version}"
        if given.network != network:
            problem = f"{given} is not in segment {segment.name} ({network})"
            raise InventoryError(host, where, problem, NIC_EXAMPLE)
        fields.check_usable(host, where, given, NIC_EXAMPLE)
    if ipv4 is None and ipv6 is None:
        raise InventoryError(host, variable, "neither ipv4 nor ipv6 is given", NIC_EXAMPLE)
    rate = fields.rate(host, f"{variable}.rate", entry.get("rate"))
    state = fields.choice(host, f"{variable}.state", entry.get("state", "up"), ("up", "down"))
    unplug, plug = _cable(host, f"{variable}.unplug", entry)
    endpoint = _endpoint(host, f"{variable}.endpoint", entry.get("endpoint"))
    return Nic(segment.name, device, ipv4, ipv6, rate, state == "up", unplug, plug, endpoint)


def _segment(host: str, variable: str, value: Any, segments: Mapping[str, Segment]) -> Segment:
    if not isinstance(value, str) or value not in segments:
        problem = f"unknown segment {value!r} (known: {', '.join(segments)})"
        raise InventoryError(host, variable, problem, NIC_EXAMPLE)
    return segments[value]


def _cable(host: str, variable: str, entry: Mapping[str, Any]) -> tuple[str, str]:
    """Return the commands that pull a cable and plug it in; refuse one without the other."""
    unplug, plug = entry.get("unplug", ""), entry.get("plug", "")
    if not isinstance(unplug, str) or not isinstance(plug, str) or bool(unplug) != bool(plug):
        problem = "unplug and plug are commands that must both be given, or neither"
        raise InventoryError(host, variable, problem, CABLE_EXAMPLE)
    if CONTROL.search(unplug + plug):
        raise InventoryError(host, variable, "unplug and plug must be one line each", CABLE_EXAMPLE)
    return unplug, plug


def _endpoint(host: str, variable: str, flags: Any) -> tuple[str, ...]:
    """Return an endpoint's flags; refuse flags that the kernel refuses (net/mptcp/pm_kernel.c)."""
    if not isinstance(flags, list | tuple) or not flags:
        problem = f"{flags!r} is not a list of endpoint flags"
        raise InventoryError(host, variable, problem, ENDPOINT_EXAMPLE)
    for flag in flags:
        fields.choice(host, variable, flag, ENDPOINT_FLAGS)
    if len(set(flags)) != len(flags):
        raise InventoryError(host, variable, "a flag is listed twice", ENDPOINT_EXAMPLE)
    if {"signal", "fullmesh"} <= set(flags):
        raise InventoryError(
            host, variable, "signal and fullmesh exclude each other in one endpoint", ENDPOINT_EXAMPLE
        )
    return tuple(flags)


def check_endpoints(host: Host, segments: Mapping[str, Segment]) -> None:
    """Refuse more MPTCP endpoints than the kernel accepts: one per address of an up NIC on a path segment."""
    if not host.mptcp or host.functions <= WITHOUT_ENDPOINTS:
        return
    number = sum(
        nic.address(family) is not None
        for nic in host.nics
        if nic.up and segments[nic.segment].kind == "path"
        for family in (4, 6)
    )
    if number > MAX_ENDPOINTS:
        problem = (
            f"{number} addresses on paths need {number} MPTCP endpoints; the kernel accepts {MAX_ENDPOINTS}"
        )
        raise InventoryError(
            host.name, "lab_nics", problem, "state: down on a spare NIC, or one family on some"
        )


def check_addresses(hosts: Mapping[str, Host]) -> None:
    """Refuse an address that two NICs have."""
    owner: dict[Any, tuple[str, str]] = {}
    for host in hosts.values():
        for i, nic in enumerate(host.nics):
            for address in (nic.address(4), nic.address(6)):
                if address is None:
                    continue
                if address in owner:
                    other, device = owner[address]
                    variable = f"lab_nics[{i}].ipv{address.version}"
                    problem = f"{address} is already {other}'s ({device})"
                    raise InventoryError(host.name, variable, problem, "a different address for every NIC")
                owner[address] = (host.name, nic.device)
