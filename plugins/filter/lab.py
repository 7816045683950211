"""Filters that derive routes, endpoints, addresses and backends from the inventory, for the playbooks.

They work on plain inventory variables (`lab_nics`, `lab_segments`, `lab_services`) and do not use Ansible.
`hosts` is always a mapping from host name to that host's variables.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

Nic = Mapping[str, Any]
Hosts = Mapping[str, Mapping[str, Any]]
Segments = Mapping[str, Mapping[str, Any]]

FAMILIES = ("ipv4", "ipv6")
#: The table of engines. The suite and the validation of inventories read it too.
ENGINES = Path(__file__).resolve().parents[2] / "mptcp_lab" / "inventory" / "engines.toml"


def is_up(nic: Nic) -> bool:
    """Return whether the inventory wants the NIC's link up."""
    return bool(nic.get("state", "up") == "up")


def address(nic: Nic, family: str) -> str:
    """Return the NIC's address of that family ("ipv4", "ipv6") without the prefix length."""
    return str(ip_interface(nic[family]).ip)


def lab_routes(name: str, hosts: Hosts, segments: Segments, gateways: Iterable[str]) -> list[dict[str, Any]]:
    """Return the routes of host `name`: `{device, to, main}`, and `via` for those through a gateway.

    Each NIC's table gets routes to the NIC's segment and to every segment that a gateway on it also reaches,
    so that packets from the NIC's address leave through the NIC. `main` marks the first route to a segment
    that the host is not connected to: that route belongs to the main table too.
    """
    nics = hosts[name]["lab_nics"]
    reached = {nic["segment"] for nic in nics}
    routes = []
    for nic in nics:
        own = [family for family in FAMILIES if nic.get(family)]
        routes += [{"device": nic["device"], "to": segments[nic["segment"]][f], "main": False} for f in own]
        for to, neighbour in _segments_beyond(nic, name, hosts, gateways):
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


def _segments_beyond(nic: Nic, name: str, hosts: Hosts, gateways: Iterable[str]) -> list[tuple[str, Nic]]:
    """Return the segments that gateways on the NIC's segment reach, each with the gateway's NIC."""
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

    A NIC's `endpoint` overrides the host's `flags`. Ids depend on the NIC's position in the inventory, so
    that they stay the same when a NIC goes down or up.
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
    """Return the wanted live state of a host's NICs, in the form that `converge` compares.

    The number of a NIC's table is `table_base` plus the NIC's position in the inventory. A NIC that is down
    has addresses and rules but no routes, because the kernel accepts none there. NetworkManager gives such a
    NIC no address either, and does not mark its routes and rules with the lab's protocol.
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
    """Return MPTCP endpoints in the form that `converge` compares, without `laminar`: iproute2 hides it."""
    return [
        " ".join(
            [
                f"{ip_address(each['address'])} id {each['id']} dev {each['device']}",
                *sorted(set(each["flags"]) - {"laminar"}),
            ]
        )
        for each in endpoints
    ]


#: By the shape of a service's `listen`: its address, and how `ss` prints the listener's address.
SHAPES = {
    "wildcard": ("0.0.0.0", "0.0.0.0"),  # noqa: S104 (only where the inventory asks for it)
    "dual-stack": ("::", "*"),
    "ipv6-only": ("::", "[::]"),
}


def lab_places(service: Mapping[str, Any], addresses: Iterable[str]) -> list[dict[str, str]]:
    """Return where a service listens: `{address, shape}` for each of its listening sockets.

    `listen` of the service is a shape (see `SHAPES`) or a list of addresses; without it, the service has a
    socket on each of the host's `addresses`, with the empty shape.
    """
    wanted = service.get("listen", "addresses")
    if isinstance(wanted, str) and wanted in SHAPES:
        return [{"address": SHAPES[wanted][0], "shape": wanted}]
    listed = addresses if isinstance(wanted, str) else wanted
    return [{"address": str(ip_address(each)), "shape": ""} for each in listed]


def lab_listeners_live(services: Iterable[Mapping[str, Any]], addresses: Iterable[str]) -> list[str]:
    """Return the listeners of services on a host's addresses, in the form that `converge` compares."""
    listed = list(addresses)
    return [
        f"{'tcp' if service.get('mptcp', 'off') == 'off' else 'mptcp'} {_ss_address(place)}:{service['port']}"
        for service in services
        for place in lab_places(service, listed)
    ]


def _ss_address(place: Mapping[str, str]) -> str:
    """Return the address of a listener as `ss` prints it."""
    if place["shape"]:
        return SHAPES[place["shape"]][1]
    return f"[{place['address']}]" if ":" in place["address"] else place["address"]


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
    """Return the services that one engine runs."""
    return [service for service in services if service["engine"] == engine]


def lab_backends(
    services: Iterable[Mapping[str, Any]], name: str, hosts: Hosts, segments: Segments
) -> list[dict[str, Any]]:
    """Return the services, each backend with its port and the addresses by which host `name` reaches it.

    The addresses are added as `ipv4`, `ipv6` and `address`, which is the IPv4 address if there is one, else
    the IPv6 address. A missing address is empty. The port is that of the backend's `service` where the
    inventory names one.
    """
    return [
        {
            key: [_backend(name, service, backend, hosts, segments) for backend in value]
            if key == "backends"
            else value
            for key, value in service.items()
        }
        for service in services
    ]


def _backend(
    name: str, service: Mapping[str, Any], backend: Mapping[str, Any], hosts: Hosts, segments: Segments
) -> dict[str, Any]:
    """Return one backend of a service with its port, method and addresses.

    Proxies listen on path segments only, and MPTCP gets several paths there only. `auto` means the wrapper
    for an engine that has no option for MPTCP to backends, such as nginx.
    """
    offered = hosts[backend["host"]].get("lab_services", [])
    key, value = ("name", backend["service"]) if "service" in backend else ("port", backend["port"])
    target: Mapping[str, Any] = next((each for each in offered if each[key] == value), {})
    method = backend.get("mptcp", "off")
    possible = engines().get(service.get("engine", ""), {}).get("backend_methods", ())
    by_wrapper = {"mptcp": "preload"} if method == "auto" and "native" not in possible else {}
    listens_on = engines()[target["engine"]].get("listens_on", ["path"]) if target else ["core"]
    on_path = method != "off" or "core" not in listens_on
    return {
        **backend,
        **by_wrapper,
        "port": target.get("port", backend.get("port")),
        **_shared_addresses(name, backend["host"], hosts, segments, "path" if on_path else "core"),
    }


def lab_methods(listeners: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the methods by which listeners, and their connections to backends, get MPTCP."""
    listed = list(listeners)
    methods = {str(listener["mptcp"]) for listener in listed}
    to_backends = {
        str(backend.get("mptcp", "off")) for listener in listed for backend in listener.get("backends", [])
    }
    return sorted(methods | (to_backends - {"off"}))


def lab_native_backends(listeners: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names of listeners whose connections to backends use the program's own MPTCP option."""
    return [
        str(listener["name"])
        for listener in listeners
        if any(backend.get("mptcp", "off") == "native" for backend in listener.get("backends", []))
    ]


def _shared_addresses(name: str, backend: str, hosts: Hosts, segments: Segments, kind: str) -> dict[str, str]:
    """Return the backend's addresses on a segment that both hosts share, of this `kind` if possible.

    Raises ValueError if they share no segment on which both have their link up.
    """
    mine = {nic["segment"]: nic for nic in hosts[name]["lab_nics"] if is_up(nic)}
    shared = [nic for nic in hosts[backend]["lab_nics"] if nic["segment"] in mine and is_up(nic)]
    shared.sort(key=lambda nic: bool(segments[nic["segment"]]["kind"] != kind))
    if not shared:
        raise ValueError(
            f"{name}: its backend {backend} is on none of the segments {', '.join(sorted(mine))}; "
            f"plug {backend} into one of them in lab_nics"
        )
    here, there = mine[shared[0]["segment"]], shared[0]
    found = {f: address(there, f) if here.get(f) and there.get(f) else "" for f in FAMILIES}
    return {**found, "address": found["ipv4"] or found["ipv6"]}


@cache
def engines() -> Mapping[str, Mapping[str, Any]]:
    """Return the table of engines by name, as mptcp_lab/inventory/engines.py explains it."""
    return tomllib.loads(ENGINES.read_text(encoding="utf-8"))


def lab_retired(
    owners: Iterable[str],
    services: Iterable[Mapping[str, Any]],
    groups: Iterable[str],
    variables: Mapping[str, Any],
) -> list[str]:
    """Return the owners in a host's manifest that the inventory no longer uses.

    `groups` are the host's groups, and `variables` those that the inventory sets for it. Role gateway belongs
    to group gateways even without an engine. An instance of an engine is retired with its service.
    """
    inside = set(groups)
    used = {"gateway"} if "gateways" in inside else set()
    for service in services:
        engine = engines()[service["engine"]]
        if inside.isdisjoint(engine["groups"]):
            continue
        used |= {*engine["roles"], *(f"{role}@{service['name']}" for role in engine["roles"])}
        used |= {role for name, role in _roles_by_variable(engine).items() if variables.get(name)}
    retirable = {role for each in engines().values() for role in each["roles"]}
    retirable |= {role for each in engines().values() for role in _roles_by_variable(each).values()}
    return sorted(owner for owner in owners if owner not in used and owner.partition("@")[0] in retirable)


def _roles_by_variable(engine: Mapping[str, Any]) -> Mapping[str, str]:
    found: Mapping[str, str] = engine.get("roles_by_variable", {})
    return found


#: A word that configurations, units and scripts accept without quotes and without a special meaning.
WORD = re.compile(r"[A-Za-z0-9_.:/@%+,-]+")


def one_word(value: Any) -> str:
    """Return a value as one word for a configuration; raise ValueError if it is not one word.

    Templates pass values of the inventory through this filter, so that no value can add a line, a directive
    or a command.
    """
    text = str(value)
    if not WORD.fullmatch(text):
        raise ValueError(f"{text!r} is not one word of letters, digits and _ . : / @ % + , -")
    return text


def program_files(folder: str, to: str) -> list[dict[str, str]]:
    """Return the Python files below a folder of the controller as `files` of `converge`, below `to`."""
    return [
        {
            "path": f"{to}/{source.relative_to(folder)}",
            "content": source.read_text(),
            "validate": "python3 -m py_compile %s",
        }
        for source in sorted(Path(folder).rglob("*.py"))
    ]


FILTERS: tuple[Callable[..., Any], ...] = (
    lab_routes,
    lab_endpoints,
    lab_network_live,
    lab_endpoints_live,
    lab_listeners_live,
    lab_places,
    lab_addresses,
    of_engine,
    lab_backends,
    lab_methods,
    lab_native_backends,
    lab_retired,
    one_word,
    program_files,
)


class FilterModule:
    """The class that Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {f.__name__: f for f in FILTERS}
