"""Define what checks require of a lab.

The functions of `mptcp_lab.suite.find` look for it, before a run, where ``--list`` shows what is missing, and
during a run, where they raise `Unsupported`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from mptcp_lab.errors import Unsupported
from mptcp_lab.inventory.model import Host, Lab, Nic, Service
from mptcp_lab.inventory.requirement import Parameters, Requirement, find_address
from mptcp_lab.lock import NAME, find_lock_file
from mptcp_lab.machines.cables import require_cable
from mptcp_lab.results.lab_document import relative_source
from mptcp_lab.suite.find.forwarders import find_forwarders
from mptcp_lab.suite.find.hosts import (
    find_address_behind,
    find_address_on,
    find_attacker,
    find_balanced,
    find_client,
    find_origin,
    find_other_router,
    find_proxy_host,
    find_router,
    find_server,
    find_spare_nic,
    find_tcp_server,
    require_mesh,
    shared_paths,
)
from mptcp_lab.suite.find.proxies import (
    BALANCING,
    SHORT_TIMEOUTS,
    Suits,
    find_balancing,
    find_listening,
    find_proxy,
    find_two_legs,
    has_short_timeouts,
    sends_proxy_header,
)
from mptcp_lab.suite.find.relays import HAS_HEADER, find_relay, impatient_relays_in


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
