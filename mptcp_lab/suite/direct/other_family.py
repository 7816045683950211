"""Keep IP versions apart on a connection over IPv6, and leave announcements unused (DIRECT-13, DIRECT-20)."""

from __future__ import annotations

from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import NeverHappened, NewEndpoint, eventually
from mptcp_lab.suite.deviations import ONE_FAMILY, check_not_lacking
from mptcp_lab.suite.direct.endpoints import (
    FULLMESH,
    ROOM,
    SIGNAL,
    SUBFLOW,
    SUBFLOWS_TIMEOUT_S,
    Ends,
    connection,
)
from mptcp_lab.suite.direct.families import check_passes
from mptcp_lab.suite.direct.flags import wait_for_pairs
from mptcp_lab.suite.packets import format_segments, joins, rows
from mptcp_lab.suite.traffic import Flow, is_mptcp


def _endpoint(machine: Machine, family: int, flags: tuple[str, ...], identity: int = 0) -> NewEndpoint:
    """Return an endpoint on the second path of a machine."""
    return NewEndpoint(machine.address(1, family), flags, identity, machine.paths[1].device)


def _wait_for_echo(ends: Ends, data: Flow) -> None:
    server = ends.server.probe
    eventually(
        lambda: server.counters().delta(data.opening.before[1]).mptcp("EchoAdd"),
        until=bool,
        within=SUBFLOWS_TIMEOUT_S,
        what=f"an echo of the announcement at {server.host} (EchoAdd)",
    )


def check_families_apart(ends: Ends, evidence: EvidenceBox) -> None:
    """Check that each endpoint of a connection over IPv6 joins addresses of its own IP version only.

    First the client has an IPv4 endpoint besides a full mesh over IPv6, and the server announces nothing.
    Then that endpoint is gone and the server announces an IPv4 address, which is joined once, by its route.

    Raises:
        Unsupported: the client's kernel is known to make no subflow of the other version.
    """
    first = ends.client.address(0, 6), ends.server.address(0, 6)
    mesh, ipv4 = _endpoint(ends.client, 6, FULLMESH, 2), _endpoint(ends.client, 4, SUBFLOW, 3)
    over_ipv6 = {first, (mesh.address, first[1])}
    over_ipv4 = ends.pair_by_route(ends.b[1])
    with (
        ends.client.probe.replace_endpoints(mesh, ipv4) as at_client,
        ends.server.probe.replace_endpoints() as at_server,
        connection(ends, to=first[1], source=first[0]) as (data, packets),
    ):
        wait_for_pairs(data, over_ipv6, "an IPv4 endpoint of the client")
        at_client.delete(ipv4)
        at_server.add(_endpoint(ends.server, 4, SIGNAL))
        _wait_for_echo(ends, data)
        try:
            wait_for_pairs(data, {*over_ipv6, over_ipv4}, "an IPv4 address of the server")
        except NeverHappened:
            what = "both families in one connection"
            check_not_lacking(ONE_FAMILY, ends.client.probe.kernel, ends.client.name, what)
            raise
    evidence.packets(rows(packets, ends.client.name))
    asked = {(str(each.src), str(each.dst)) for each in joins(packets)}
    assert asked == {*over_ipv6, over_ipv4} - {first}, f"joins were sent for {sorted(asked)}"


def check_plain_peer(client: Machine, server: Machine, protocols: tuple[str, str]) -> None:
    """Check that a connection over IPv6 is plain TCP if one of client and server has no MPTCP.

    `protocols` are those of the client's socket and of the server's listener, "mptcp" or "tcp".
    """
    with (
        server.probe.listen(server.address(0, 6), 0, protocol=protocols[1]) as listener,
        client.probe.connect(server.address(0, 6), listener.port, protocol=protocols[0]) as out,
        listener.accept() as into,
    ):
        check_passes(out, into, "upwards")
        check_passes(into, out, "downwards")
        found = [is_mptcp(each) for each in (out, into)]
    assert not any(found), f"MPTCP between {protocols[0]} and {protocols[1]} at client, server: {found}"


def check_unused(ends: Ends, evidence: EvidenceBox) -> None:
    """Check that a client that accepts no announcement answers one over IPv6, and does not join it."""
    first = ends.client.address(0, 6), ends.server.address(0, 6)
    with (
        ends.client.probe.replace_endpoints(),
        ends.server.probe.replace_endpoints(_endpoint(ends.server, 6, SIGNAL)),
        connection(ends, to=first[1], source=first[0], room=(ROOM, ROOM, 0)) as (data, packets),
    ):
        _wait_for_echo(ends, data)
        wait_for_pairs(data, {first}, "an announcement that the client does not accept")
    evidence.packets(rows(packets, ends.client.name))
    assert not joins(packets), f"the client joined: {format_segments(joins(packets))}"
