"""What the playbooks derive from the inventory: routes, endpoints, addresses, backends.

Filters work on plain inventory variables (`lab_nics`, `lab_segments`, `lab_services`) and know nothing of
Ansible. `hosts` is always a mapping from host name to that host's variables.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

Nic = Mapping[str, Any]
Hosts = Mapping[str, Mapping[str, Any]]
Segments = Mapping[str, Mapping[str, Any]]

FAMILIES = ("ipv4", "ipv6")


def is_up(nic: Nic) -> bool:
    """Tell whether the inventory wants the NIC's link up."""
    return bool(nic.get("state", "up") == "up")


def address(nic: Nic, family: str) -> str:
    """Return the NIC's bare address of that family ("ipv4", "ipv6")."""
    return str(ip_interface(nic[family]).ip)


def lab_routes(name: str, hosts: Hosts, segments: Segments, gateways: Iterable[str]) -> list[dict[str, Any]]:
    """Return host `name`'s routes: `{device, to, main}`, and `via` where they lead through a gateway.

    Each NIC's own table gets the NIC's segment and every segment that a gateway there also reaches, so that
    what leaves from the NIC's address leaves by the NIC. `main` marks the first route to a segment that the
    host is not plugged into: that one belongs into the main table too.
    """
    nics = hosts[name]["lab_nics"]
    reached = {nic["segment"] for nic in nics}
    routes = []
    for nic in nics:
        own = [family for family in FAMILIES if nic.get(family)]
        routes += [{"device": nic["device"], "to": segments[nic["segment"]][f], "main": False} for f in own]
        for to, neighbour in _beyond(nic, name, hosts, gateways):
            routes += [
                {
                    "device": nic["device"],
                    "to": segments[to][family],
                    "via": address(neighbour, family),
                    "main": to not in reached and is_up(nic),
                }
                for family in own
                if segments[to].get(family) and neighbour.get(family)
            ]
            if is_up(nic):
                reached.add(to)
    return routes


def _beyond(nic: Nic, name: str, hosts: Hosts, gateways: Iterable[str]) -> list[tuple[str, Nic]]:
    """Return the segments behind the NIC's own, each with the gateway's NIC that leads there."""
    found: dict[str, Nic] = {}
    for gateway in gateways:
        plugged = [] if gateway == name else [n for n in hosts[gateway]["lab_nics"] if is_up(n)]
        for neighbour in plugged:
            if neighbour["segment"] == nic["segment"]:
                for far in plugged:
                    if far["segment"] != nic["segment"]:
                        found.setdefault(far["segment"], neighbour)
    return list(found.items())


def lab_endpoints(nics: Iterable[Nic], segments: Segments, flags: Iterable[str]) -> list[dict[str, Any]]:
    """Return one MPTCP endpoint `{id, address, device, flags}` per address on a path segment that is up.

    A NIC's own `endpoint` goes before the host's `flags`.
    Ids follow the NIC's place in the inventory: they stay the same when a NIC goes down or comes back.
    """
    return [
        {
            "id": 2 * position + FAMILIES.index(family) + 1,
            "address": address(nic, family),
            "device": nic["device"],
            "flags": list(nic.get("endpoint", flags)),
        }
        for position, nic in enumerate(nics)
        if segments[nic["segment"]]["kind"] == "path" and is_up(nic)
        for family in FAMILIES
        if nic.get(family)
    ]


def lab_network_live(
    nics: Iterable[Nic],
    routes: Iterable[Mapping[str, Any]],
    table_base: int,
    protocol: int,
    manager: str = "unit",
) -> dict[str, Any]:
    """Return the live state that a host's NICs are to have, as `converge` takes and compares it.

    A NIC's own table has the number `table_base` plus its place in the inventory. A NIC that is down has its
    addresses and rules, and no routes: the kernel takes none there. NetworkManager gives it no address
    either, and marks its own routes and rules otherwise.
    """
    listed = list(nics)
    tables = {nic["device"]: table_base + place for place, nic in enumerate(listed, start=1)}
    up = {nic["device"] for nic in listed if is_up(nic)}
    lines = []
    for route in routes:
        via = f" via {ip_address(route['via'])}" if route.get("via") else ""
        line = f"{ip_network(route['to'])}{via} dev {route['device']} table"
        if route["device"] in up:
            lines += [f"{line} {tables[route['device']]}"] + ([f"{line} main"] if route["main"] else [])
    present = [(nic, family) for nic in listed for family in FAMILIES if nic.get(family)]
    links = [f"{nic['device']} {'up' if is_up(nic) else 'down'}" for nic in listed]
    if manager == "networkmanager":
        managed = [f"{ip_interface(nic[f])} dev {nic['device']}" for nic, f in present if is_up(nic)]
        return {"links": links, "addresses": managed}
    return {
        "protocol": protocol,
        "links": links,
        "addresses": [f"{ip_interface(nic[family])} dev {nic['device']}" for nic, family in present],
        "rules": [
            f"from {address(nic, family)} lookup {tables[nic['device']]} priority {tables[nic['device']]}"
            for nic, family in present
        ],
        "routes": lines,
    }


def lab_endpoints_live(endpoints: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return MPTCP endpoints as `converge` compares them; iproute2 does not show the flag `laminar`."""
    return [
        " ".join(
            [
                f"{ip_address(each['address'])} id {each['id']} dev {each['device']}",
                *sorted(set(each["flags"]) - {"laminar"}),
            ]
        )
        for each in endpoints
    ]


def lab_listeners_live(services: Iterable[Mapping[str, Any]], addresses: Iterable[str]) -> list[str]:
    """Return the listeners of services on a host's addresses as `converge` compares them."""
    places = [f"[{each}]" if ":" in each else each for each in map(str, map(ip_address, addresses))]
    return [
        f"{'tcp' if service.get('mptcp', 'off') == 'off' else 'mptcp'} {place}:{service['port']}"
        for service in services
        for place in places
    ]


def lab_addresses(nics: Iterable[Nic], segments: Segments, kinds: Iterable[str]) -> list[str]:
    """Return the addresses of the NICs whose link is up and whose segment is of one of these kinds."""
    wanted = set(kinds)
    return [
        address(nic, family)
        for nic in nics
        if segments[nic["segment"]]["kind"] in wanted and is_up(nic)
        for family in FAMILIES
        if nic.get(family)
    ]


def of_engine(services: Iterable[Mapping[str, Any]], engine: str) -> list[Mapping[str, Any]]:
    """Return the services that one engine runs (haproxy, nginx, forwarder, origin)."""
    return [service for service in services if service["engine"] == engine]


def lab_backends(
    services: Iterable[Mapping[str, Any]], name: str, hosts: Hosts, segments: Segments
) -> list[dict[str, Any]]:
    """Return the services with `ipv4`, `ipv6` and `address` of each backend: those host `name` reaches it by.

    `address` is the IPv4 one where there is one; an address that the backend does not have is empty.
    """
    return [
        {
            key: [
                {**backend, **_shared_addresses(name, backend["host"], hosts, segments)} for backend in value
            ]
            if key == "backends"
            else value
            for key, value in service.items()
        }
        for service in services
    ]


def _shared_addresses(name: str, backend: str, hosts: Hosts, segments: Segments) -> dict[str, str]:
    """Return the backend's addresses on a segment that both hosts are on; a core segment before a path."""
    mine = {nic["segment"]: nic for nic in hosts[name]["lab_nics"] if is_up(nic)}
    shared = [nic for nic in hosts[backend]["lab_nics"] if nic["segment"] in mine and is_up(nic)]
    shared.sort(key=lambda nic: bool(segments[nic["segment"]]["kind"] != "core"))
    if not shared:
        raise ValueError(
            f"{name}: its backend {backend} is on none of the segments {', '.join(sorted(mine))}; "
            f"plug {backend} into one of them in lab_nics"
        )
    here, there = mine[shared[0]["segment"]], shared[0]
    found = {f: address(there, f) if here.get(f) and there.get(f) else "" for f in FAMILIES}
    return {**found, "address": found["ipv4"] or found["ipv6"]}


#: What each engine's services need of a host: the groups that are set up with it, and the roles.
ENGINES = {
    "haproxy": ({"proxies"}, {"haproxy"}),
    "nginx": ({"proxies"}, {"nginx_stream"}),
    "forwarder": ({"proxies", "forwarders"}, {"forwarder", "gateway"}),
    "origin": ({"origins"}, {"origin"}),
}


def lab_retired(
    owners: Iterable[str],
    services: Iterable[Mapping[str, Any]],
    groups: Iterable[str],
    nginx_source: str = "",
) -> list[str]:
    """Return which owners of changes on a host, by its manifest, the inventory no longer asks for.

    `groups` are the host's groups. The gateway, which belongs to no engine, is used by its group too. An
    origin instance goes with its service, a build of nginx as soon as no `nginx_source` is asked for.
    """
    inside = set(groups)
    used = {"gateway"} if "gateways" in inside else set()
    for service in services:
        where, roles = ENGINES[service["engine"]]
        used |= roles if where & inside else set()
        if service["engine"] == "origin" and where & inside:
            used.add(f"origin@{service['name']}")
    used |= {"nginx_source"} if "nginx_stream" in used and nginx_source else set()
    retirable = {"nginx_source"}.union(*(roles for _, roles in ENGINES.values()))
    return sorted(owner for owner in owners if owner not in used and owner.partition("@")[0] in retirable)


#: What a configuration, a unit or a script takes as one word, without quotes and without a second meaning.
WORD = re.compile(r"[A-Za-z0-9_.:/@%+,-]+")


def one_word(value: Any) -> str:
    """Return a value as the one word that it has to be in a configuration; ValueError where it is not one.

    Templates pass what comes from the inventory through it, so that no value adds a line, a directive or a
    command, whoever calls the role.
    """
    text = str(value)
    if not WORD.fullmatch(text):
        raise ValueError(f"{text!r} is not one word of letters, digits and _ . : / @ % + , -")
    return text


def program_files(folder: str, to: str) -> list[dict[str, str]]:
    """Return the Python files below a folder of the controller, for folder `to`, as `converge` takes them."""
    return [
        {
            "path": f"{to}/{source.relative_to(folder)}",
            "content": source.read_text(),
            "validate": "python3 -m py_compile %s",
        }
        for source in sorted(Path(folder).rglob("*.py"))
    ]


def one_program(files: Iterable[str]) -> str:
    """Return Python files as one text for `python3 -`: modules by their names, then the program."""
    *modules, program = [(Path(file).stem, Path(file).read_text()) for file in files]
    return (
        "import sys, types\n"
        f"for name, text in {modules!r}:\n"
        "    module = sys.modules[name] = types.ModuleType(name)\n"
        "    exec(compile(text, name + '.py', 'exec'), module.__dict__)\n"
        f"exec(compile({program[1]!r}, {program[0] + '.py'!r}, 'exec'))\n"
    )


FILTERS: tuple[Callable[..., Any], ...] = (
    lab_routes,
    lab_endpoints,
    lab_network_live,
    lab_endpoints_live,
    lab_listeners_live,
    lab_addresses,
    of_engine,
    lab_backends,
    lab_retired,
    one_word,
    program_files,
    one_program,
)


class FilterModule:
    """The entry that Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {f.__name__: f for f in FILTERS}
