"""GATEWAY-1: a plain router is no MPTCP proxy."""

import pytest

from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.probe import IPPROTO_TCP
from mptcp_lab.suite.expectations import origin_of
from mptcp_lab.suite.packets import capable, first_syns, mptcp_options, of_port, rows, segments
from mptcp_lab.suite.session import Machine, Session
from mptcp_lab.suite.traffic import flow, is_mptcp


@pytest.fixture
def router(machines: Session) -> Machine:
    """The plain router between A's paths and B."""
    return machines.first("gateways")


@claim("GATEWAY-1")
def test_router(a: Machine, plain_b: Machine, router: Machine, evidence: EvidenceBox) -> None:
    """Through a router to a B without MPTCP: plain TCP, FallbackSYNACK, no subflow."""
    before, port = a.probe.counters(), origin_of(plain_b).port
    inside = router.host.on(a.paths[0].segment)
    assert inside is not None, f"{router.name} is not on {a.paths[0].segment}"
    address = str(plain_b.host.nics[0].ipv4.ip)
    with (
        router.probe.capture([inside.device]) as capture,
        flow(a, address, port, plain_b, origin_of(plain_b)) as data,
    ):
        ended = data.upload(100_000)
        facts = data.stream.facts()
        assert not is_mptcp(data.stream)
        passed = of_port(segments(capture.stop()), port)
    moved = a.probe.counters().delta(before)
    evidence.packets(rows(passed, router.name, inside.device, passed[0].time_ns))
    evidence.document("A's socket", facts)
    assert capable(first_syns(passed)[0]), "A did not ask for MPTCP"
    assert not [s for s in passed if s.sport == port and mptcp_options(s)], "MPTCP options came back"
    assert moved.mptcp("MPCapableFallbackSYNACK") == 1
    assert moved.mptcp("MPJoinSynTx") == 0
    assert len(facts.subflows) <= 1
    assert (ended.got.protocol, ended.intact) == (IPPROTO_TCP, True)
