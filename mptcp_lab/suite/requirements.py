"""Define what checks require of a lab, and find it in the inventory.

The same functions serve before a run, where ``--list`` shows what is missing, and during a run, where they
raise `Unsupported`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import permutations, product
from pathlib import Path

from mptcp_lab.errors import Unsupported
from mptcp_lab.inventory.engines import PROXIES
from mptcp_lab.inventory.model import Backend, Host, Lab, Nic, Service
from mptcp_lab.inventory.requirement import Parameters, Requirement, find_address, find_host
from mptcp_lab.lock import NAME, find_lock_file
from mptcp_lab.machines.cables import require_cable
from mptcp_lab.results.lab_document import relative_source

Suits = Callable[[Service], object]
#: The methods by which a proxy's listener gets MPTCP.
METHODS = ("native", "preload")
#: The engines that balance connections over backends with weights.
BALANCING = tuple(name for name, engine in PROXIES.items() if engine.documented.balances)
#: The proxies that have an option for MPTCP to backends, besides the wrapper.
NATIVE_BACKENDS = tuple(name for name, engine in PROXIES.items() if "native" in engine.backend_methods)
#: Each engine and method of the first proxy's connections, and each engine and method of the second's
#: listener.
RELAYS = (
    *(f"{first}-preload-to-{second}-native" for first, second in permutations(PROXIES, 2)),
    *(f"{first}-native-to-{second}-preload" for first, second in product(NATIVE_BACKENDS, PROXIES)),
)
#: Each engine as first and as second proxy.
ENGINES_APART = RELAYS[:3]
#: A process under the wrapper has no listener without MPTCP, so a second proxy without it has native ones.
RELAYS_TO_TCP = tuple(f"{name}-preload-to-{name}-off" for name in PROXIES)
TWO_LEG_PROXIES = tuple(
    f"{name}-{method}"
    for name, engine in PROXIES.items()
    for method in METHODS
    if method in engine.backend_methods
)


def find_client(lab: Lab) -> Host:
    """Return the first client; raise `Unsupported` if the lab has none."""
    return find_host(lab, "clients")


def find_server(lab: Lab) -> Host:
    """Return the first origin that speaks MPTCP on a path; raise `Unsupported` if the lab has none."""
    return find_host(lab, "origins", lambda host: host.mptcp and lab.path_nics(host), " with MPTCP on a path")


def find_tcp_server(lab: Lab) -> Host:
    """Return the first origin without MPTCP; raise `Unsupported` if the lab has none."""
    return find_host(lab, "origins", lambda host: not host.mptcp, " without MPTCP")


def find_router(lab: Lab) -> Host:
    """Return the first gateway, a plain router; raise `Unsupported` if the lab has none."""
    return find_host(lab, "gateways")


def find_proxy_host(lab: Lab) -> Host:
    """Return the first proxy that speaks MPTCP; raise `Unsupported` if the lab has none."""
    return find_host(lab, "proxies", lambda host: host.mptcp and lab.path_nics(host), " with MPTCP on a path")


def find_other_router(lab: Lab) -> Host:
    """Return the first proxy that runs a forwarder; raise `Unsupported` if the lab has none."""
    return find_host(
        lab, "proxies", lambda host: any(s.engine == "forwarder" for s in host.services), " that forward"
    )


def find_attacker(lab: Lab) -> Host:
    """Return the first attacker on two paths of the client; raise `Unsupported` if the lab has none.

    The checks use it over IPv4.
    """
    wanted = {nic.segment for nic in lab.path_nics(find_client(lab))[:2]}

    def is_on_paths(host: Host) -> bool:
        return wanted <= {nic.segment for nic in lab.path_nics(host) if nic.ipv4}

    return find_host(lab, "attackers", is_on_paths, f" with IPv4 on {' and '.join(sorted(wanted))}")


def find_origin(host: Host) -> Service:
    """Return a host's origin service: one with MPTCP if the host speaks MPTCP, else one without.

    Raises:
        Unsupported: the inventory gives the host no such service.
    """
    wanted = "native" if host.mptcp else "off"
    for service in host.services:
        if service.engine == "origin" and service.mptcp == wanted:
            return service
    raise Unsupported("origin", f"the inventory gives {host.name} no origin service with mptcp: {wanted}")


def find_spare_nic(lab: Lab, host: Host) -> Nic:
    """Return the first NIC on a path segment that the inventory keeps down, or raise `Unsupported`."""
    for nic in host.nics:
        if not nic.up and lab.segments[nic.segment].kind == "path":
            return nic
    raise Unsupported("spare NIC", "the inventory has none that is down on a path segment", host.name)


def find_address_behind(router: Host, client: Host, server: Host) -> str:
    """Return an IPv4 address of the server that the client reaches only through the router.

    Raises:
        Unsupported: no segment of the server is behind the router only.
    """
    for nic in server.nics:
        if nic.up and nic.ipv4 and router.nic_on(nic.segment) and not client.nic_on(nic.segment):
            return str(nic.ipv4.ip)
    raise Unsupported("router", f"no segment of {server.name} is behind {router.name} only")


def find_address_on(host: Host, segment: str) -> str:
    """Return a host's IPv4 address on a segment; raise `Unsupported` if it has none there."""
    nic = host.nic_on(segment)
    if nic is None or nic.ipv4 is None:
        raise Unsupported("router", f"not on {segment}", host.name)
    return str(nic.ipv4.ip)


def require_mesh(lab: Lab, host: Host, flags: set[str]) -> None:
    """Raise `Unsupported` where the endpoints of a host's path NICs lack one of these flags."""
    for nic in lab.path_nics(host):
        if missing := flags - set(nic.endpoint):
            what = (
                f"the inventory gives {nic.device} {' '.join(nic.endpoint)}, without {' and '.join(missing)}"
            )
            raise Unsupported("a full mesh", what, host.name)


def _may_use(service: Service, method: str) -> bool:
    """Return whether a service may get MPTCP by a method, as far as the inventory decides it.

    A session replaces ``auto`` by the method in use (`machines.methods`). Before that, ``auto`` may become
    any of `METHODS`.
    """
    return _may_use_method(service.mptcp, method)


def _may_use_method(listed: str, method: str) -> bool:
    return listed == method or (listed == "auto" and method in METHODS)


def find_proxy(lab: Lab, name: str, suits: Suits = lambda _: True, what: str = "") -> Service:
    """Return the listener of a name such as ``haproxy-native``, with one backend that speaks only TCP.

    `suits` is a further condition on the service, and `what` describes it in the error message.

    Raises:
        Unsupported: the inventory lists no such service.
    """
    engine, method = name.split("-")
    for service in lab.services(engine):
        plain = [each for each in service.backends if not lab.hosts[each.host].mptcp]
        if service.accepts_proxy:  # a relay's second proxy, which no client can talk to without a header
            continue
        if _may_use(service, method) and len(plain) == len(service.backends) == 1 and suits(service):
            return service
    capability = f"{engine} with MPTCP by {method}{what}"
    raise Unsupported(capability, "the inventory lists no such service before a plain TCP backend")


def find_listening(lab: Lab, engine: str, listen: str) -> Service:
    """Return a proxy's MPTCP listener of a shape (`listen`) before a plain TCP backend.

    Raises:
        Unsupported: the inventory lists no such service.
    """
    for method in METHODS:
        try:
            return find_proxy(lab, f"{engine}-{method}", lambda service: service.listen == listen)
        except Unsupported:
            continue
    capability = f"{engine} with MPTCP and listen: {listen}"
    raise Unsupported(capability, "the inventory lists no such service before a plain TCP backend")


def find_relay(lab: Lab, name: str, suits: Suits = lambda _: True, what: str = "") -> Service:
    """Return the first proxy's service of a relay such as ``haproxy-native-to-nginx-preload``.

    The name has engine and method of the first proxy's connections, and engine and method of the second
    proxy's listener. The second proxy has one backend, which speaks only TCP. `suits` is a further condition
    on the service, and `what` describes it in the error message.

    Raises:
        Unsupported: the inventory lists no such service.
    """
    first, second = (words.split("-") for words in name.split("-to-"))
    for service in lab.services(first[0]):
        behind = behind_relay(lab, service)
        if behind is None or not suits(service):
            continue
        by_first = _may_use_method(service.backends[0].mptcp, first[1])
        if by_first and behind.engine == second[0] and _may_use(behind, second[1]):
            return service
    raise Unsupported(f"a relay {name}{what}", "the inventory lists no such service before another proxy")


def behind_relay(lab: Lab, service: Service) -> Service | None:
    """Return the second proxy's service of a relay before a plain TCP server; None if it is no relay."""
    if len(service.backends) != 1 or service.backends[0].mptcp == "off":
        return None
    behind = _service_at(lab, service.backends[0])
    if behind is None or behind.engine not in PROXIES or len(behind.backends) != 1:
        return None
    return None if lab.hosts[behind.backends[0].host].mptcp else behind


def _service_at(lab: Lab, backend: Backend) -> Service | None:
    return next((each for each in lab.hosts[backend.host].services if each.port == backend.port), None)


def find_two_legs(lab: Lab, name: str) -> Service:
    """Return the listener of a name such as ``haproxy-native`` that uses MPTCP on both of its legs.

    Raises:
        Unsupported: the inventory lists no such service before an origin with MPTCP.
    """
    engine, method = name.split("-")
    for service in lab.services(engine):
        if len(service.backends) != 1 or not _may_use(service, method):
            continue
        backend = service.backends[0]
        behind = _service_at(lab, backend)
        is_origin = behind is not None and behind.engine == "origin" and behind.mptcp != "off"
        if is_origin and _may_use_method(backend.mptcp, method):
            return service
    what = "the inventory lists no such service before an origin with MPTCP"
    raise Unsupported(f"{engine} with MPTCP by {method} on both legs", what)


def shared_paths(first: Host, second: Host, lab: Lab) -> list[tuple[Nic, Nic]]:
    """Return the NICs of both hosts on each path segment that they share, in the order of the second's."""
    mine = {nic.segment: nic for nic in lab.path_nics(first)}
    return [(mine[nic.segment], nic) for nic in lab.path_nics(second) if nic.segment in mine]


def _relay_paths(lab: Lab, service: Service) -> None:
    """Raise `Unsupported` unless a relay's proxies share two paths, and the client is on the second one."""
    front, back = lab.hosts[service.host], lab.hosts[service.backends[0].host]
    paths = shared_paths(front, back, lab)
    if len(paths) < 2:
        raise Unsupported(
            "two paths between the proxies", f"the inventory gives them {len(paths)}", back.name
        )
    if paths[0] != (lab.path_nics(front)[0], lab.path_nics(back)[0]):
        what = f"the first path of {front.name} and that of {back.name} are not the same segment"
        raise Unsupported("two paths between the proxies", what)
    find_address_on(find_client(lab), paths[1][0].segment)


def find_balancing(lab: Lab, method: str, suits: Suits, what: str) -> Service:
    """Return the balancing listener with several backends that meets the condition `suits`.

    `what` describes the condition in the error message.

    Raises:
        Unsupported: the inventory lists no such service.
    """
    for service in (each for engine in BALANCING for each in lab.services(engine)):
        if _may_use(service, method) and len(service.backends) > 1 and suits(service):
            return service
    capability = f"{' or '.join(BALANCING)} balancing {what}, MPTCP by {method}"
    raise Unsupported(capability, "the inventory lists no such service")


@dataclass(frozen=True)
class Forwarders:
    """Two forwarders between client and server.

    ``service`` is the service of the first one. ``ways`` has, for each forwarder, the client's NIC, the
    forwarder's host, and the host's NIC on the same segment.
    """

    service: Service
    ways: tuple[tuple[Nic, Host, Nic], tuple[Nic, Host, Nic]]


def find_forwarders(
    lab: Lab, client: Host, server: Host, *, snat: bool = True, one_nic: bool = False
) -> Forwarders:
    """Return two forwarders to the server on two of A's paths, with or without source NAT (`snat`).

    With `one_nic`, the client reaches both from its first NIC.

    Raises:
        Unsupported: the inventory does not list two such forwarders.
    """
    found = [each for each in lab.services("forwarder") if _leads_to(lab, each, server, snat)]
    port = found[0].port if found else 0
    hosts = [lab.hosts[service.host] for service in found if service.port == port]
    paths = lab.path_nics(client)
    nics = paths[:1] * 2 if one_nic else paths
    ways = [
        (nic, host, outside)
        for nic, host in zip(nics, hosts, strict=False)
        if (outside := host.nic_on(nic.segment))
    ]
    if len(ways) < 2:
        kind = "with" if snat else "without"
        raise Unsupported(f"two forwarders {kind} source NAT", "the inventory lists none on two of A's ways")
    return Forwarders(found[0], (ways[0], ways[1]))


def _leads_to(lab: Lab, service: Service, server: Host, snat: bool) -> bool:
    """Return whether a forwarder's backend is on the server, and its source NAT setting equals `snat`."""
    entries = lab.hosts[service.host].variables["lab_services"]
    entry = next(entry for entry in entries if entry["name"] == service.name)
    return service.backends[0].host == server.name and bool(entry.get("snat", True)) == snat


def find_balanced(lab: Lab, client: Host, router: Host) -> tuple[tuple[Host, str, str], ...]:
    """Return two hosts with MPTCP behind the router: each one's address there, and one on a client's path.

    The client reaches the first address through the router only, and the second one without it.

    Raises:
        Unsupported: the inventory has no two such hosts.
    """
    found = []
    for host in (*lab.hosts_with("origins"), *lab.hosts_with("proxies")):
        own = [nic for path in lab.path_nics(client)[1:] if (nic := host.nic_on(path.segment)) and nic.ipv4]
        try:
            if host.mptcp and own:
                found.append((host, find_address_behind(router, client, host), str(own[0].address())))
        except Unsupported:
            continue
    if len(found) < 2:
        raise Unsupported("two servers with MPTCP behind a gateway", f"the inventory has {len(found)}")
    return tuple(found[:2])


def find_lock(lab: Lab) -> Path:
    """Return the path of the lock file beside the inventory; raise `Unsupported` if there is none."""
    if (path := find_lock_file(lab.source)) is None:
        raise Unsupported(NAME, f"there is none beside {relative_source(lab.source)}; ./lab lock writes one")
    return path


def _full_mesh(lab: Lab, _: Parameters) -> None:
    require_mesh(lab, find_client(lab), {"subflow", "fullmesh"})
    require_mesh(lab, find_server(lab), {"signal"})


def _proxy_mesh(lab: Lab, parameters: Parameters) -> None:
    require_mesh(lab, find_client(lab), {"subflow", "fullmesh"})
    require_mesh(lab, lab.hosts[find_proxy(lab, parameters["target"]).host], {"signal"})


def _mesh_to_a_proxy(lab: Lab, _: Parameters) -> None:
    require_mesh(lab, find_client(lab), {"subflow", "fullmesh"})
    require_mesh(lab, find_proxy_host(lab), {"signal"})


def _behind_router(lab: Lab, server: Callable[[Lab], Host]) -> str:
    return find_address_behind(find_router(lab), find_client(lab), server(lab))


def _routers_on_paths(lab: Lab, _: Parameters) -> None:
    for nic in lab.path_nics(find_client(lab)):
        for router in (find_router(lab), find_other_router(lab)):
            find_address_on(router, nic.segment)


def _ipv6(lab: Lab, _: Parameters) -> None:
    for host in (find_client(lab), find_server(lab)):
        find_address(lab, host, family=6)


def _proxy_over_ipv6(lab: Lab, parameters: Parameters) -> None:
    find_address(lab, find_client(lab), family=6)
    find_address(lab, lab.hosts[find_proxy(lab, parameters["target"]).host], family=6)


def _cable_of_loss(lab: Lab, parameters: Parameters) -> None:
    ends = {"cable-out-at-A": find_client, "cable-out-at-B": find_server}
    if find := ends.get(parameters["loss"]):
        host = find(lab)
        require_cable(lab, host, lab.path_nics(host)[0])


def _cables_of(lab: Lab, host: Host, nics: Iterator[Nic] | tuple[Nic, ...]) -> None:
    for nic in nics:
        require_cable(lab, host, nic)


def _cables_of_dying_forwarder(lab: Lab, parameters: Parameters) -> None:
    if parameters["death"] == "cables-out":
        _, host, _ = find_forwarders(lab, find_client(lab), find_server(lab)).ways[parameters["begins"]]
        _cables_of(lab, host, host.nics)


def _cables_of_dying_proxy(lab: Lab, parameters: Parameters) -> None:
    if parameters["death"] == "second-cables-out":
        host = lab.hosts[find_proxy(lab, f"{parameters['targets']}-native").host]
        _cables_of(lab, host, host.nics)


def _cables_of_other_paths(lab: Lab, _: Parameters) -> None:
    client = find_client(lab)
    _cables_of(lab, client, lab.path_nics(client)[1:])


def _target(lab: Lab, parameters: Parameters) -> object:
    name = parameters["target"]
    return find_origin(find_server(lab)) if name == "direct" else find_proxy(lab, name)


def has_short_timeouts(service: Service) -> bool:
    """Return whether the inventory sets both a connect timeout and an idle timeout for a service."""
    return bool(service.connect_timeout and service.idle_timeout)


#: The condition `has_short_timeouts` as words for messages.
SHORT_TIMEOUTS = ", connect_timeout and idle_timeout of its own"


def sends_proxy_header(version: int) -> tuple[Suits, str]:
    """Return the condition that a service sends PROXY protocol `version`, and words for it in messages."""
    return lambda service: service.proxy_protocol == version, f" and PROXY protocol {version}"


#: The condition that a relay hands the client's address on, and words for it in messages.
HAS_HEADER: tuple[Suits, str] = (lambda service: service.proxy_protocol, " with the PROXY protocol")


def impatient_relays_in(lab: Lab) -> list[str]:
    """Return the names of the lab's relays with short timeouts; raise `Unsupported` if it has none."""
    names = []
    for name in RELAYS:
        with suppress(Unsupported):
            find_relay(lab, name, has_short_timeouts, SHORT_TIMEOUTS)
            names.append(name)
    if not names:
        raise Unsupported(f"a relay{SHORT_TIMEOUTS}", "the inventory lists no such service")
    return names


def _cable_of_relays_loss(lab: Lab, parameters: Parameters) -> None:
    service = find_relay(lab, parameters["relay"])
    ends = {"cable-out-at-A": service.host, "cable-out-at-B": service.backends[0].host}
    if name := ends.get(parameters["loss"]):
        host = lab.hosts[name]
        require_cable(lab, host, lab.path_nics(host)[0])


def balances(suits: Suits, what: str) -> Requirement:
    """Return the requirement of a balancing listener with several backends that meets a condition."""
    return Requirement(
        f"{' or '.join(BALANCING)} balancing {what}, MPTCP by {{find}}",
        lambda lab, parameters: find_balancing(lab, parameters["find"], suits, what),
    )


CLIENT = Requirement("a client", lambda lab, _: find_client(lab))
SERVER = Requirement("an origin with MPTCP on a path", lambda lab, _: find_server(lab))
ORIGIN = Requirement(
    "an origin service with MPTCP on the server", lambda lab, _: find_origin(find_server(lab))
)
TCP_SERVER = Requirement("an origin without MPTCP", lambda lab, _: find_origin(find_tcp_server(lab)))
ROUTER = Requirement("a gateway", lambda lab, _: find_router(lab))
ATTACKER = Requirement("an attacker on the client's first two paths", lambda lab, _: find_attacker(lab))
OTHER_ROUTER = Requirement("a second host that forwards packets", lambda lab, _: find_other_router(lab))
ROUTERS_ON_PATHS = Requirement("both routers on each path of the client", _routers_on_paths)
SERVER_BEHIND_ROUTER = Requirement(
    "an address of the server behind the gateway only", lambda lab, _: _behind_router(lab, find_server)
)
TCP_SERVER_BEHIND_ROUTER = Requirement(
    "an address of the origin without MPTCP behind the gateway only",
    lambda lab, _: _behind_router(lab, find_tcp_server),
)
TWO_PATHS = Requirement("two paths of the client", lambda lab, _: find_address(lab, find_client(lab), 1))
SERVER_TWO_PATHS = Requirement(
    "two paths of the server", lambda lab, _: find_address(lab, find_server(lab), 1)
)
SPARE_NIC = Requirement(
    "a spare NIC of the client, down on a path segment", lambda lab, _: find_spare_nic(lab, find_client(lab))
)
PROXY_MESH = Requirement("endpoints of a full mesh at client and proxy", _proxy_mesh)
A_PROXY = Requirement("a proxy with MPTCP on a path", lambda lab, _: find_proxy_host(lab))
MESH_TO_A_PROXY = Requirement("endpoints of a full mesh at client and that proxy", _mesh_to_a_proxy)
FULL_MESH = Requirement("endpoints of a full mesh at client and server", _full_mesh)
IPV6 = Requirement("IPv6 on the first path of client and server", _ipv6)
LOCK = Requirement(f"{NAME} beside the inventory", lambda lab, _: find_lock(lab))
CABLE_OF_LOSS = Requirement("a cable that can be pulled, for {loss}", _cable_of_loss)
CABLES_OF_OTHER_PATHS = Requirement("cables of the client's other paths", _cables_of_other_paths)
CABLES_OF_DYING_FORWARDER = Requirement(
    "cables of the proxy that dies, for {death}", _cables_of_dying_forwarder
)
CABLES_OF_DYING_PROXY = Requirement("cables of the proxy that dies, for {death}", _cables_of_dying_proxy)
TARGET = Requirement("a listener {target}", _target)
IMPATIENT = Requirement(
    f"a listener {{impatient}}{SHORT_TIMEOUTS}",
    lambda lab, p: find_proxy(lab, p["impatient"], has_short_timeouts, SHORT_TIMEOUTS),
)
TARGETS = Requirement(
    "listeners {targets}-preload and {targets}-native",
    lambda lab, p: [find_proxy(lab, f"{p['targets']}-{method}") for method in ("preload", "native")],
)
TARGET_OVER_IPV6 = Requirement("IPv6 on the first path of client and proxy", _proxy_over_ipv6)
TCP_LISTENER = Requirement(
    "a listener of {engine} without MPTCP", lambda lab, p: find_proxy(lab, f"{p['engine']}-off")
)
LISTENING = Requirement(
    "a listener of {engine} with MPTCP and listen: {listen}",
    lambda lab, p: find_listening(lab, p["engine"], p["listen"]),
)
PROXY_HEADER = Requirement(
    "a listener {name} with PROXY protocol {version}",
    lambda lab, p: find_proxy(lab, p["name"], *sends_proxy_header(p["version"])),
)
BALANCED = Requirement(
    "two hosts with MPTCP behind the gateway and on the client's second path",
    lambda lab, _: find_balanced(lab, find_client(lab), find_router(lab)),
)
RELAY = Requirement("a relay {relay}", lambda lab, p: find_relay(lab, p["relay"]))
RELAY_PATHS = Requirement(
    "two paths between the proxies of {relay}, the second one also the client's",
    lambda lab, p: _relay_paths(lab, find_relay(lab, p["relay"])),
)
IMPATIENT_RELAY = Requirement(
    f"a relay {{impatient_relay}}{SHORT_TIMEOUTS}",
    lambda lab, p: find_relay(lab, p["impatient_relay"], has_short_timeouts, SHORT_TIMEOUTS),
)
IMPATIENT_RELAYS = Requirement(f"a relay{SHORT_TIMEOUTS}", lambda lab, _: impatient_relays_in(lab))
RELAY_HEADER = Requirement(
    "a relay {header_relay} with the PROXY protocol",
    lambda lab, p: find_relay(lab, p["header_relay"], *HAS_HEADER),
)
RELAY_TO_TCP = Requirement("a relay {relay_to_tcp}", lambda lab, p: find_relay(lab, p["relay_to_tcp"]))
TWO_LEGS = Requirement(
    "a listener {two_legs} with MPTCP on both legs", lambda lab, p: find_two_legs(lab, p["two_legs"])
)
CABLE_OF_RELAYS_LOSS = Requirement("a cable that can be pulled, for {loss}", _cable_of_relays_loss)
FORWARDERS = Requirement(
    "two forwarders with source NAT on two paths",
    lambda lab, _: find_forwarders(lab, find_client(lab), find_server(lab)),
)
FORWARDERS_WITH_OR_WITHOUT_SNAT = Requirement(
    "two forwarders on two paths, source NAT: {snat}",
    lambda lab, p: find_forwarders(lab, find_client(lab), find_server(lab), snat=p["snat"]),
)
FORWARDERS_ON_ONE_NIC = Requirement(
    "two forwarders on the client's first path",
    lambda lab, _: find_forwarders(lab, find_client(lab), find_server(lab), one_nic=True),
)
#: The requirement of each fixture: a check that uses the fixture has this requirement.
OF_FIXTURES = {
    "client": CLIENT,
    "server": SERVER,
    "tcp_server": TCP_SERVER,
    "router": ROUTER,
    "other_router": OTHER_ROUTER,
    "attacker": ATTACKER,
    "proxy": A_PROXY,
    "target": TARGET,
    "impatient": IMPATIENT,
    "targets": TARGETS,
    "split": FORWARDERS,
    "relay": RELAY,
    "impatient_relay": IMPATIENT_RELAY,
    "impatient_relays": IMPATIENT_RELAYS,
    "header_relay": RELAY_HEADER,
    "relay_to_tcp": RELAY_TO_TCP,
    "two_legs": TWO_LEGS,
}
