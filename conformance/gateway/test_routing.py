"""GATEWAY-1 to GATEWAY-4: a plain router is no MPTCP proxy, and routes are as they were set."""

from ipaddress import ip_address

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.probe import IPPROTO_TCP
from mptcp_lab.suite.expectations import announcing_nothing, origin_of, wait_for_joins
from mptcp_lab.suite.gateway.routing import (
    address_behind,
    all_routes,
    chosen_route,
    differences,
    network_of,
    on_segment,
    routed_target,
    source_table,
    way,
)
from mptcp_lab.suite.matrix import Matrix, Pair
from mptcp_lab.suite.packets import (
    capable,
    first_syn,
    format_segments,
    joins_sent,
    mptcp_options,
    rows,
    tcp_capture,
    unforwarded_syns,
)
from mptcp_lab.suite.requirements import (
    ORIGIN,
    ROUTERS_ON_PATHS,
    SERVER_BEHIND_ROUTER,
    TCP_SERVER_BEHIND_ROUTER,
)
from mptcp_lab.suite.traffic import is_mptcp


@claim("GATEWAY-1", requires=TCP_SERVER_BEHIND_ROUTER)
def test_router(client: Machine, tcp_server: Machine, router: Machine, evidence: EvidenceBox) -> None:
    """A connection through a router to a B without MPTCP falls back to plain TCP and has no subflow."""
    before, target = client.probe.counters(), routed_target(router, client, tcp_server)
    inside = router.host.nic_on(client.paths[0].segment)
    assert inside is not None, f"{router.name} is not on {client.paths[0].segment}"
    with (
        tcp_capture(router, target.port, [inside.device]) as capture,
        tcp_capture(client, target.port) as left,
        target.flow(client) as data,
    ):
        ended = data.upload(100_000)
        facts = data.stream.facts()
        assert not is_mptcp(data.stream), "the connection to a B without MPTCP is MPTCP"
        passed = capture.stop()
        sent = left.stop()
    moved = client.probe.counters().delta(before)
    evidence.packets(rows(passed, router.name, inside.device))
    evidence.document("A's socket", facts)
    assert capable(first_syn(passed)), "A did not ask for MPTCP"
    assert not [s for s in passed if s.sport == target.port and mptcp_options(s)], "MPTCP options came back"
    fallen = moved.mptcp("MPCapableFallbackSYNACK")
    assert fallen == 1, f"A counted {fallen} fallbacks (MPCapableFallbackSYNACK) for one connection"
    assert joins_sent(moved, sent) == 0, "A sent joins on a connection that is plain TCP"
    assert len(facts.subflows) <= 1, f"a plain TCP connection has subflows: {facts.subflows}"
    assert ended.got.protocol == IPPROTO_TCP, "B's end of the connection is not plain TCP"
    assert ended.intact, ended.difference


@claim("GATEWAY-2", requires=(ORIGIN, SERVER_BEHIND_ROUTER))
def test_router_before_mptcp(
    client: Machine, server: Machine, router: Machine, evidence: EvidenceBox
) -> None:
    """On a connection through a router to a B with MPTCP, the subflows of all of A's NICs end at B."""
    target = routed_target(router, client, server)
    pairs = [
        Pair(nic.device, ip_address(client.address(n)), ip_address(target.address))
        for n, nic in enumerate(client.paths)
    ]
    expected = Matrix(dict.fromkeys(pairs, f"routed by {router.name}"), {})
    at_router, at_b = router.probe.counters(), server.probe.counters()
    with (
        announcing_nothing(server),
        tcp_capture(router, target.port) as capture,
        target.flow(client) as data,
    ):
        transfer = data.start()
        found = wait_for_joins(data, expected).pairs
        ended = data.end(transfer)
        passed = capture.stop()
    here, there = router.probe.counters().delta(at_router), server.probe.counters().delta(at_b)
    evidence.subflows(expected.rows())
    evidence.packets(rows(passed, router.name))
    assert found == expected.addresses, "subflows through the router"
    assert not unforwarded_syns(passed), f"the router kept {format_segments(unforwarded_syns(passed))}"
    opened, further = there.mptcp("MPCapableACKRX"), there.mptcp("MPJoinAckRx")
    assert (opened, further) == (1, len(found) - 1), "connections and joins that B counted"
    own = [name for name in here.changes() if name.startswith("MPTcpExt")]
    assert not own, f"the router itself speaks MPTCP: {own}"
    assert ended.intact, ended.difference


@claim("GATEWAY-3", requires=(ORIGIN, SERVER_BEHIND_ROUTER, ROUTERS_ON_PATHS))
def test_route_taken(
    client: Machine, server: Machine, router: Machine, other_router: Machine, evidence: EvidenceBox
) -> None:
    """Packets from each of A's addresses take the configured route, then one set through another router."""
    to = address_behind(router, client, server)
    for nic in client.paths:
        mine, hops = str(nic.address()), [on_segment(host, nic.segment) for host in (router, other_router)]
        configured, kernel = way(client, mine, to), chosen_route(client, mine, to)
        command = f"replace {to}/32 via {hops[1]} dev {nic.device} table {source_table(client, mine)}"
        with client.probe.fault("routes", commands=[command]):
            asked, kernel_asked = way(client, mine, to), chosen_route(client, mine, to)
        evidence.document(f"from {mine}", {"as configured": configured, f"asked for {hops[1]}": asked})
        routes = ((hops[0], nic.device), (hops[1], nic.device))
        assert (kernel, kernel_asked) == routes, f"the routes that A's kernel chooses from {mine}"
        assert configured == [hops[0], to], f"from {mine}: {' then '.join(configured) or 'nobody answers'}"
        assert asked == [hops[1], to], f"from {mine}: {' then '.join(asked) or 'nobody answers'}"


@claim("GATEWAY-4", requires=(ORIGIN, SERVER_BEHIND_ROUTER, ROUTERS_ON_PATHS))
def test_routes_afterwards(
    client: Machine, server: Machine, router: Machine, other_router: Machine, evidence: EvidenceBox
) -> None:
    """After an experiment that sets routes, all routes are as before, byte for byte."""
    to, segment = address_behind(router, client, server), client.paths[0].segment
    hops = [on_segment(host, segment) for host in (router, other_router)]
    commands = [f"add default via {hops[0]}", f"replace {network_of(client.lab, to)} via {hops[1]}"]
    before = all_routes(client)
    with client.probe.fault("routes", commands=commands), client.probe.connect(to, origin_of(server).port):
        during = all_routes(client)
    after = all_routes(client)
    evidence.document("routes before", before)
    evidence.document("routes during", during)
    assert during != before, "the experiment changed no route"
    assert after == before, differences(before, after)
