"""GATEWAY-5: a router strips or drops MPTCP's options: TCP is used, and the doctor names the cause."""

import pytest

from mptcp_lab.doctor.counters import diagnose
from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.gateway.lost_syns import blackhole_timeout, retransmissions_before_fallback
from mptcp_lab.suite.gateway.routing import routed_target
from mptcp_lab.suite.packets import capable, first_syns, format_segments, rows, tcp_capture
from mptcp_lab.suite.requirements import ORIGIN, SERVER_BEHIND_ROUTER
from mptcp_lab.suite.traffic import is_mptcp

STRIPPED = {
    "syn": "options stripped from SYNs",
    "synack": "options stripped from SYN/ACKs",
    "all": "options stripped from SYNs",
}


@claim("GATEWAY-5", case="strips", requires=(ORIGIN, SERVER_BEHIND_ROUTER))
@pytest.mark.parametrize("packets", STRIPPED)
def test_stripping_router(
    client: Machine, server: Machine, router: Machine, evidence: EvidenceBox, packets: str
) -> None:
    """If a router strips options, plain TCP carries all data without a delay; the doctor names the cause."""
    target = routed_target(router, client, server)
    at_a, at_b = client.probe.counters(), server.probe.counters()
    towards = {"sport": target.port} if packets == "synack" else {"dport": target.port}
    with (
        router.probe.fault("strip_option", packets=packets, **towards),
        target.flow(client) as data,
    ):
        ended = data.upload(100_000)
        fallen_back = not is_mptcp(data.stream)
        connected = data.stream.seconds
    diagnosis = diagnose(client.probe.counters().delta(at_a), server.probe.counters().delta(at_b))
    evidence.figure("connected after", 1000 * connected, "ms")
    evidence.document("doctor", diagnosis)
    assert fallen_back, "MPTCP came up although its options were stripped"
    assert diagnosis.cause == STRIPPED[packets], f"the doctor names {diagnosis.cause}"
    assert ended.intact, ended.difference


@claim("GATEWAY-5", case="drops", requires=(ORIGIN, SERVER_BEHIND_ROUTER))
def test_dropping_router(client: Machine, server: Machine, router: Machine, evidence: EvidenceBox) -> None:
    """If a router drops SYNs with options, SYNs without them follow after the documented retransmissions."""
    target = routed_target(router, client, server)
    tries = 1 + retransmissions_before_fallback(client)
    at_a, at_b = client.probe.counters(), server.probe.counters()
    with (
        blackhole_timeout(client, 1),  # so that MPTCP is on again after the check
        router.probe.fault("drop_option", dport=target.port),
        tcp_capture(client, target.port, [client.paths[0].device]) as capture,
        target.flow(client, within=10) as data,
    ):
        ended = data.upload(100_000)
        fallen_back = not is_mptcp(data.stream)
        syns = first_syns(capture.stop())
    diagnosis = diagnose(client.probe.counters().delta(at_a), server.probe.counters().delta(at_b))
    evidence.figure("connected after", data.stream.seconds, "s")
    evidence.packets(rows(syns, client.name, client.paths[0].device))
    evidence.document("doctor", diagnosis)
    assert [capable(s) for s in syns] == [True] * tries + [False], f"SYNs: {format_segments(syns)}"
    assert fallen_back, "the connection is MPTCP although its first SYNs were dropped"
    assert diagnosis.cause == "SYNs with options dropped", f"the doctor names {diagnosis.cause}"
    assert ended.intact, ended.difference
