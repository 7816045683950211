"""Turn the inventory's variables into a `Lab`, or say what is wrong with them.

Pure: takes the document that ``ansible-inventory --list`` prints. Every error names the host, the variable,
what is wrong, and an example of right; nothing is touched before all of it holds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_interface, ip_network
from typing import Any

from mptcp_lab.errors import LabError
from mptcp_lab.inventory.model import FUNCTIONS, Backend, Host, Lab, Nic, Segment, Service

FLAVOURS = ("embedded", "vm", "hardware")
ENGINES = ("haproxy", "nginx", "forwarder", "origin")
#: How a listener gets MPTCP: a proxy by its own option or the wrapper, our origin by itself.
PROXY_METHODS, METHODS = ("native", "preload", "auto", "off"), ("native", "off")
KINDS = ("path", "core")
#: Flags of MPTCP endpoints (include/uapi/linux/mptcp_pm.h), and a NIC's unless the inventory says otherwise.
ENDPOINT_FLAGS = ("signal", "subflow", "backup", "fullmesh", "laminar")
CLIENT_ENDPOINT, SERVER_ENDPOINT = ("subflow", "fullmesh"), ("signal",)
NIC_EXAMPLE = "{segment: path1, device: eth1, ipv4: 198.18.1.10/24, ipv6: '2001:db8:1::10/64'}"
CABLE_EXAMPLE = "unplug: ssh switch1 port 5 down, plug: ssh switch1 port 5 up"
SEGMENT_EXAMPLE = "path1: {kind: path, ipv4: 198.18.1.0/24, ipv6: '2001:db8:1::/64'}"
ENDPOINT_EXAMPLE = "endpoint: [subflow, fullmesh, backup]"
SERVICE_EXAMPLE = (
    "{name: test1, engine: haproxy, port: 7000, mptcp: preload, backends: [{host: server2, port: 7000}]}"
)
SERVICE_KEYS = "name engine port mptcp backends hash proxy_protocol connect_timeout idle_timeout snat"
RATE = re.compile(r"[1-9][0-9]*(k|m|g)bit")
TIME = re.compile(r"[1-9][0-9]*(ms|s|m|h)")
DEVICE = re.compile(r"[^\s/:]{1,15}")
HOSTNAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class InventoryError(LabError):
    """The inventory is wrong: host, variable, what is wrong, and an example of right."""

    def __init__(self, host: str, variable: str, problem: str, example: str) -> None:
        super().__init__(problem, f"inventory: {host}: {variable}", f"right is, for example: {example}")
        self.host, self.variable, self.problem, self.example = host, variable, problem, example


def lab_from(document: Mapping[str, Any], source: str) -> Lab:
    """Build and validate a `Lab` from ``ansible-inventory --list``'s document; raise `InventoryError`."""
    hostvars: Mapping[str, Mapping[str, Any]] = document.get("_meta", {}).get("hostvars", {})
    members = {group: set(_hosts_of(document, group)) for group in FUNCTIONS}
    names = [name for name in _hosts_of(document, "all") if name != "localhost"]
    if not names:
        raise InventoryError(source, "hosts", "no host is listed", "copy inventories/hardware.example")
    shared = hostvars.get(names[0], {})
    segments = _segments(shared.get("lab_segments"))
    hosts: dict[str, Host] = {}
    for name in names:
        functions = frozenset(group for group, inside in members.items() if name in inside)
        hosts[name] = _host(name, functions, hostvars.get(name, {}), segments)
    lab = Lab(_lab_name(shared), _flavour(shared), source, segments, hosts)
    _check_addresses(lab)
    _check_services(lab)
    return lab


def _hosts_of(document: Mapping[str, Any], group: str) -> Iterable[str]:
    """List a group's hosts, those of its child groups included, in the inventory's order."""
    seen: dict[str, None] = {}
    entry = document.get(group, {})
    for name in entry.get("hosts", ()):
        seen[name] = None
    for child in entry.get("children", ()):
        seen.update(dict.fromkeys(_hosts_of(document, child)))
    return list(seen)


def _lab_name(variables: Mapping[str, Any]) -> str:
    name = variables.get("lab_name", "lab")
    if not isinstance(name, str) or not HOSTNAME.fullmatch(name):
        raise InventoryError("all hosts", "lab_name", f"{name!r} is not a short lower-case name", "rack1")
    return name


def _flavour(variables: Mapping[str, Any]) -> str:
    flavour = variables.get("lab_flavour", "hardware")
    return _choice("all hosts", "lab_flavour", flavour, FLAVOURS)


def _choice(host: str, variable: str, value: Any, allowed: tuple[str, ...]) -> str:
    if isinstance(value, bool):  # YAML 1.1 reads a bare on or off as a boolean
        value = "on" if value else "off"
    if value not in allowed:
        raise InventoryError(host, variable, f"{value!r} is not one of {', '.join(allowed)}", allowed[0])
    return str(value)


def _mapping(host: str, variable: str, value: Any, example: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InventoryError(host, variable, f"expected a mapping, got {value!r}", example)
    return value


def _entries(host: str, variable: str, value: Any, example: str) -> list[Mapping[str, Any]]:
    if not isinstance(value, list):
        raise InventoryError(host, variable, f"expected a list, got {value!r}", f"[{example}]")
    return [_mapping(host, f"{variable}[{i}]", entry, example) for i, entry in enumerate(value)]


def _known(host: str, variable: str, entry: Mapping[str, Any], keys: str, example: str) -> None:
    unknown = sorted(set(entry) - set(keys.split()))
    if unknown:
        raise InventoryError(host, variable, f"unknown key {unknown[0]!r} (known: {keys})", example)


def _parsed(
    host: str, variable: str, parse: Callable[[str], Any], value: Any, version: int, example: str
) -> Any:
    """Parse an address or network and insist on its family; None stays None."""
    if value is None:
        return None
    try:
        parsed = parse(str(value))
    except ValueError as error:
        raise InventoryError(host, variable, str(error), example) from None
    if parsed.version != version:
        raise InventoryError(host, variable, f"{value} is not IPv{version}", example)
    return parsed


def _segments(value: Any) -> dict[str, Segment]:
    where = "all hosts"
    entries = _mapping(where, "lab_segments", value, SEGMENT_EXAMPLE)
    segments: dict[str, Segment] = {}
    for name, raw in entries.items():
        variable = f"lab_segments.{name}"
        entry = _mapping(where, variable, raw, SEGMENT_EXAMPLE)
        _known(where, variable, entry, "kind ipv4 ipv6", SEGMENT_EXAMPLE)
        if not HOSTNAME.fullmatch(str(name)) or len(str(name)) > 15:
            raise InventoryError(where, variable, "a segment's name is at most 15 of a-z, 0-9 and -", "path1")
        kind = _choice(where, f"{variable}.kind", entry.get("kind", "path"), KINDS)
        ipv4 = _parsed(where, f"{variable}.ipv4", ip_network, entry.get("ipv4"), 4, SEGMENT_EXAMPLE)
        ipv6 = _parsed(where, f"{variable}.ipv6", ip_network, entry.get("ipv6"), 6, SEGMENT_EXAMPLE)
        if ipv4 is None and ipv6 is None:
            raise InventoryError(where, variable, "neither ipv4 nor ipv6 is given", SEGMENT_EXAMPLE)
        segments[name] = Segment(name, kind, ipv4, ipv6)
    return segments


def _host(
    name: str, functions: frozenset[str], variables: Mapping[str, Any], segments: Mapping[str, Segment]
) -> Host:
    if not HOSTNAME.fullmatch(name):
        raise InventoryError(name, "name", "a host's name is of a-z, 0-9 and -", "server1")
    if not functions:
        raise InventoryError(
            name, "groups", f"the host is in none of {', '.join(FUNCTIONS)}", "clients: {hosts: {client: }}"
        )
    nics = _nics(name, variables, segments, CLIENT_ENDPOINT if "clients" in functions else SERVER_ENDPOINT)
    services = _services(name, variables)
    mptcp = _choice(name, "lab_mptcp", variables.get("lab_mptcp", "on"), ("on", "off"))
    return Host(name, functions, nics, services, mptcp != "off", dict(variables))


def _nics(
    host: str, variables: Mapping[str, Any], segments: Mapping[str, Segment], endpoint: tuple[str, ...]
) -> tuple[Nic, ...]:
    nics: list[Nic] = []
    management = variables.get("lab_mgmt_device")
    endpoint = _endpoint(host, "lab_endpoint_flags", variables.get("lab_endpoint_flags", endpoint))
    for i, entry in enumerate(_entries(host, "lab_nics", variables.get("lab_nics"), NIC_EXAMPLE)):
        nic = _nic(host, f"lab_nics[{i}]", {"endpoint": endpoint, **entry}, segments)
        if any(other.device == nic.device for other in nics):
            raise InventoryError(host, f"lab_nics[{i}].device", f"{nic.device} is listed twice", NIC_EXAMPLE)
        if nic.device == management:
            problem = f"{nic.device} is the management NIC (lab_mgmt_device), which the lab never touches"
            raise InventoryError(host, f"lab_nics[{i}].device", problem, NIC_EXAMPLE)
        nics.append(nic)
    return tuple(nics)


def _nic(host: str, variable: str, entry: Mapping[str, Any], segments: Mapping[str, Segment]) -> Nic:
    _known(host, variable, entry, "segment device ipv4 ipv6 rate state unplug plug endpoint", NIC_EXAMPLE)
    device = entry.get("device")
    if not isinstance(device, str) or not DEVICE.fullmatch(device):
        raise InventoryError(host, f"{variable}.device", "a NIC needs its device name", NIC_EXAMPLE)
    segment = segments.get(str(entry.get("segment")))
    if segment is None:
        known = ", ".join(segments)
        raise InventoryError(
            host,
            f"{variable}.segment",
            f"unknown segment {entry.get('segment')!r} (known: {known})",
            NIC_EXAMPLE,
        )
    ipv4 = _parsed(host, f"{variable}.ipv4", ip_interface, entry.get("ipv4"), 4, NIC_EXAMPLE)
    ipv6 = _parsed(host, f"{variable}.ipv6", ip_interface, entry.get("ipv6"), 6, NIC_EXAMPLE)
    for given, network in ((ipv4, segment.ipv4), (ipv6, segment.ipv6)):
        if given is not None and given.network != network:
            raise InventoryError(
                host,
                f"{variable}.ipv{given.version}",
                f"{given} is not in segment {segment.name} ({network})",
                NIC_EXAMPLE,
            )
    if ipv4 is None and ipv6 is None:
        raise InventoryError(host, variable, "neither ipv4 nor ipv6 is given", NIC_EXAMPLE)
    rate = entry.get("rate")
    if rate is not None and not RATE.fullmatch(str(rate)):
        raise InventoryError(host, f"{variable}.rate", f"{rate!r} is not a rate", "100mbit")
    state = _choice(host, f"{variable}.state", entry.get("state", "up"), ("up", "down"))
    commands = [entry.get(word, "") for word in ("unplug", "plug")]
    if not all(isinstance(each, str) for each in commands) or len([c for c in commands if c]) == 1:
        problem = "unplug and plug are two commands, which belong together"
        raise InventoryError(host, f"{variable}.unplug", problem, CABLE_EXAMPLE)
    endpoint = _endpoint(host, f"{variable}.endpoint", entry.get("endpoint"))
    unplug, plug = commands
    return Nic(segment.name, device, ipv4, ipv6, rate, state == "up", unplug, plug, endpoint)


def _endpoint(host: str, variable: str, flags: Any) -> tuple[str, ...]:
    """Return an endpoint's flags; refuse what the kernel would (net/mptcp/pm_kernel.c)."""
    if not isinstance(flags, list | tuple) or not flags:
        problem = f"{flags!r} is no list of an endpoint's flags"
        raise InventoryError(host, variable, problem, ENDPOINT_EXAMPLE)
    for flag in flags:
        _choice(host, variable, flag, ENDPOINT_FLAGS)
    if {"signal", "fullmesh"} <= set(flags):
        raise InventoryError(
            host, variable, "signal and fullmesh exclude each other in one endpoint", ENDPOINT_EXAMPLE
        )
    return tuple(flags)


def _services(host: str, variables: Mapping[str, Any]) -> tuple[Service, ...]:
    services: list[Service] = []
    for i, entry in enumerate(
        _entries(host, "lab_services", variables.get("lab_services", []), SERVICE_EXAMPLE)
    ):
        service = _service(host, f"lab_services[{i}]", entry)
        for other in services:
            if other.port == service.port:
                raise InventoryError(
                    host,
                    f"lab_services[{i}].port",
                    f"{service.port} is taken by {other.name}",
                    SERVICE_EXAMPLE,
                )
            if other.name == service.name:
                raise InventoryError(
                    host, f"lab_services[{i}].name", f"{service.name} is listed twice", SERVICE_EXAMPLE
                )
        services.append(service)
    return tuple(services)


def _port(host: str, variable: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 65536:
        raise InventoryError(host, variable, f"{value!r} is not a port number", "7000")
    return value


def _service(host: str, variable: str, entry: Mapping[str, Any]) -> Service:
    _known(host, variable, entry, SERVICE_KEYS, SERVICE_EXAMPLE)
    name = entry.get("name")
    if not isinstance(name, str) or not HOSTNAME.fullmatch(name):
        raise InventoryError(
            host, f"{variable}.name", f"{name!r} is not a short lower-case name", SERVICE_EXAMPLE
        )
    engine = _choice(host, f"{variable}.engine", entry.get("engine"), ENGINES)
    port = _port(host, f"{variable}.port", entry.get("port"))
    method = _choice(
        host,
        f"{variable}.mptcp",
        entry.get("mptcp", "off"),
        PROXY_METHODS if engine in ("haproxy", "nginx") else METHODS,
    )
    backends = tuple(
        _backend(host, f"{variable}.backends[{j}]", backend)
        for j, backend in enumerate(
            _entries(host, f"{variable}.backends", entry.get("backends", []), "{host: server2, port: 7000}")
        )
    )
    if engine != "origin" and not backends:
        raise InventoryError(host, variable, f"service {name} has no backend", SERVICE_EXAMPLE)
    return Service(
        name,
        engine,
        port,
        method,
        host,
        backends,
        hashed=bool(entry.get("hash", False)),
        proxy_protocol=_proxy_protocol(host, variable, engine, entry.get("proxy_protocol", 0)),
        connect_timeout=_timeout(host, f"{variable}.connect_timeout", entry.get("connect_timeout", "")),
        idle_timeout=_timeout(host, f"{variable}.idle_timeout", entry.get("idle_timeout", "")),
    )


def _proxy_protocol(host: str, variable: str, engine: str, value: Any) -> int:
    """Check the PROXY protocol's version: haproxy sends 1 or 2, nginx 1; an origin reads both, or none."""
    versions = {"haproxy": (0, 1, 2), "nginx": (0, 1), "origin": (False, True)}.get(engine, (0,))
    if value not in versions:
        problem = f"{value!r} is not among what {engine} can do ({', '.join(map(str, versions))})"
        raise InventoryError(host, f"{variable}.proxy_protocol", problem, "proxy_protocol: 1")
    return int(value)


def _timeout(host: str, variable: str, value: Any) -> str:
    if value != "" and not TIME.fullmatch(str(value)):
        raise InventoryError(host, variable, f"{value!r} is not a time", "500ms")
    return str(value)


def _backend(host: str, variable: str, entry: Mapping[str, Any]) -> Backend:
    example = "{host: server2, port: 7000, weight: 1, max_fails: 3, fail_timeout: 10s}"
    _known(host, variable, entry, "host port weight max_fails fail_timeout", example)
    port = _port(host, f"{variable}.port", entry.get("port"))
    weight, max_fails = entry.get("weight", 1), entry.get("max_fails", 3)
    if not isinstance(weight, int) or not isinstance(max_fails, int) or weight < 1 or max_fails < 0:
        raise InventoryError(
            host, variable, "weight and max_fails are whole numbers, weight at least 1", example
        )
    return Backend(str(entry.get("host")), port, weight, max_fails, str(entry.get("fail_timeout", "10s")))


def _check_addresses(lab: Lab) -> None:
    """Refuse an address that two NICs carry."""
    owner: dict[Any, tuple[str, str]] = {}
    for host in lab.hosts.values():
        for i, nic in enumerate(host.nics):
            for address in (nic.address(4), nic.address(6)):
                if address is None:
                    continue
                if address in owner:
                    other, device = owner[address]
                    variable = f"lab_nics[{i}].ipv{address.version}"
                    raise InventoryError(
                        host.name,
                        variable,
                        f"{address} is already {other}'s ({device})",
                        "an address of its own for every NIC",
                    )
                owner[address] = (host.name, nic.device)


def _check_services(lab: Lab) -> None:
    """Refuse a backend that no host of the lab offers, or that the proxy has no segment in common with."""
    for host in lab.hosts.values():
        for i, service in enumerate(host.services):
            for j, backend in enumerate(service.backends):
                _check_backend(lab, host, f"lab_services[{i}].backends[{j}]", backend)


def _check_backend(lab: Lab, host: Host, variable: str, backend: Backend) -> None:
    target = lab.hosts.get(backend.host)
    if target is None:
        raise InventoryError(
            host.name,
            f"{variable}.host",
            f"no host {backend.host!r} in the lab",
            "{host: server2, port: 7000}",
        )
    ports = [service.port for service in target.services]
    if backend.port not in ports:
        raise InventoryError(
            host.name,
            f"{variable}.port",
            f"{target.name} offers no port {backend.port} (it offers {ports or 'none'})",
            "{host: server2, port: 7000}",
        )
    if not {nic.segment for nic in host.nics} & {nic.segment for nic in target.nics}:
        raise InventoryError(
            host.name, f"{variable}.host", f"{host.name} and {target.name} share no segment", NIC_EXAMPLE
        )
