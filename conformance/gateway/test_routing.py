"""GATEWAY-1 to GATEWAY-4: a plain router is no MPTCP proxy, and routes are what they were told to be."""

from ipaddress import ip_address

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.probe import IPPROTO_TCP
from mptcp_lab.suite.expectations import announcing_nothing, origin_of, wait_for_joins
from mptcp_lab.suite.gateway.routing import (
    all_routes,
    behind,
    chosen,
    differences,
    network_of,
    on_segment,
    source_table,
    way,
)
from mptcp_lab.suite.matrix import Matrix, Pair
from mptcp_lab.suite.packets import (
    capable,
    first_syns,
    joins_sent,
    mptcp_options,
    of_port,
    rows,
    segments,
    shown,
    unforwarded,
)
from mptcp_lab.suite.traffic import flow, is_mptcp


@claim("GATEWAY-1")
def test_router(a: Machine, plain_b: Machine, router: Machine, evidence: EvidenceBox) -> None:
    """Through a router to a B without MPTCP: plain TCP, FallbackSYNACK, no subflow."""
    before, port = a.probe.counters(), origin_of(plain_b).port
    inside = router.host.on(a.paths[0].segment)
    assert inside is not None, f"{router.name} is not on {a.paths[0].segment}"
    address = behind(router, a, plain_b)
    with (
        router.probe.capture([inside.device]) as capture,
        a.probe.capture(a.devices) as left,
        flow(a, address, port, plain_b, origin_of(plain_b)) as data,
    ):
        ended = data.upload(100_000)
        facts = data.stream.facts()
        assert not is_mptcp(data.stream)
        passed = of_port(segments(capture.stop()), port)
        sent = of_port(segments(left.stop()), port)
    moved = a.probe.counters().delta(before)
    evidence.packets(rows(passed, router.name, inside.device, passed[0].time_ns))
    evidence.document("A's socket", facts)
    assert capable(first_syns(passed)[0]), "A did not ask for MPTCP"
    assert not [s for s in passed if s.sport == port and mptcp_options(s)], "MPTCP options came back"
    assert moved.mptcp("MPCapableFallbackSYNACK") == 1
    assert joins_sent(moved, sent) == 0
    assert len(facts.subflows) <= 1
    assert (ended.got.protocol, ended.intact) == (IPPROTO_TCP, True)


@claim("GATEWAY-2")
def test_router_before_mptcp(a: Machine, b: Machine, router: Machine, evidence: EvidenceBox) -> None:
    """Through a router to a B with MPTCP: the subflows of all of A's NICs end at B, not at the router."""
    address, port = behind(router, a, b), origin_of(b).port
    pairs = [Pair(nic.device, ip_address(a.address(n)), ip_address(address)) for n, nic in enumerate(a.paths)]
    expected = Matrix(dict.fromkeys(pairs, f"routed by {router.name}"), {})
    at_router, at_b = router.probe.counters(), b.probe.counters()
    with (
        announcing_nothing(b),
        router.probe.capture(router.devices) as capture,
        flow(a, address, port, b, origin_of(b)) as data,
    ):
        transfer = data.start()
        found = wait_for_joins(data, expected).pairs
        ended = data.end(transfer)
        passed = of_port(segments(capture.stop()), port)
    here, there = router.probe.counters().delta(at_router), b.probe.counters().delta(at_b)
    evidence.subflows(expected.rows())
    evidence.packets(rows(passed, router.name, "", passed[0].time_ns))
    assert found == expected.addresses
    assert not unforwarded(passed), f"the router kept {shown(unforwarded(passed))}"
    assert there.mptcp("MPCapableACKRX") == 1
    assert there.mptcp("MPJoinAckRx") == len(found) - 1
    assert not [name for name in here.moved() if name.startswith("MPTcpExt")]
    assert ended.intact


@claim("GATEWAY-3")
def test_route_taken(
    a: Machine, b: Machine, router: Machine, other_router: Machine, evidence: EvidenceBox
) -> None:
    """From each of A's addresses packets take the route asked for: as configured, then through another."""
    to = behind(router, a, b)
    for nic in a.paths:
        mine, hops = str(nic.address()), [on_segment(host, nic.segment) for host in (router, other_router)]
        configured, kernel = way(a, mine, to), chosen(a, mine, to)
        command = f"replace {to}/32 via {hops[1]} dev {nic.device} table {source_table(a, mine)}"
        with a.probe.fault("routes", commands=[command]):
            asked, kernel_asked = way(a, mine, to), chosen(a, mine, to)
        evidence.document(f"from {mine}", {"as configured": configured, f"asked for {hops[1]}": asked})
        assert (kernel, kernel_asked) == ((hops[0], nic.device), (hops[1], nic.device))
        assert configured == [hops[0], to], f"from {mine}: {' then '.join(configured) or 'nobody answers'}"
        assert asked == [hops[1], to], f"from {mine}: {' then '.join(asked) or 'nobody answers'}"


@claim("GATEWAY-4")
def test_routes_afterwards(
    a: Machine, b: Machine, router: Machine, other_router: Machine, evidence: EvidenceBox
) -> None:
    """Routes are set for an experiment: afterwards they are as before, byte for byte."""
    to, segment = behind(router, a, b), a.paths[0].segment
    hops = [on_segment(host, segment) for host in (router, other_router)]
    commands = [f"add default via {hops[0]}", f"replace {network_of(a.lab, to)} via {hops[1]}"]
    before = all_routes(a)
    with a.probe.fault("routes", commands=commands), a.probe.connect(to, origin_of(b).port):
        during = all_routes(a)
    after = all_routes(a)
    evidence.document("routes before", before)
    evidence.document("routes during", during)
    assert during != before, "the experiment changed no route"
    assert after == before, differences(before, after)
