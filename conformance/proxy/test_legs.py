"""PROXY-1, -5 and -7: MPTCP in front, plain TCP behind, and what happens when a path goes."""

from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.probe import IPPROTO_TCP
from mptcp_lab.suite.expectations import all_joined, expected_pairs
from mptcp_lab.suite.failover import survives
from mptcp_lab.suite.packets import mptcp_options, of_port, rows, segments
from mptcp_lab.suite.session import Machine
from mptcp_lab.suite.traffic import Front, is_mptcp


@claim("PROXY-1")
def test_legs(a: Machine, front: Front, evidence: EvidenceBox) -> None:
    """The front leg is MPTCP with all of A's subflows, the back leg is plain TCP."""
    before = front.machine.probe.counters()
    with (
        front.origin.probe.capture(front.origin.devices) as back,
        front.flow(a) as data,
    ):
        transfer = data.start()
        expected = expected_pairs(a, front.machine)
        found = all_joined(data, expected)
        assert is_mptcp(data.stream)
        ended = data.end(transfer)
        answers = [
            s
            for s in of_port(segments(back.stop()), front.origin_service.port)
            if s.sport == front.origin_service.port
        ]
    moved = front.machine.probe.counters().delta(before)
    evidence.subflows(expected.rows())
    evidence.packets(rows(answers, front.origin.name, "", answers[0].time_ns))
    assert found == expected.addresses
    assert moved.mptcp("MPCapableACKRX") == 1
    assert moved.mptcp("MPJoinAckRx") == len(found) - 1
    assert (ended.got.protocol, ended.got.is_mptcp) == (IPPROTO_TCP, False)
    assert not [s for s in answers if mptcp_options(s)], "B sent MPTCP options on the back leg"
    assert ended.intact


@claim("PROXY-5")
def test_path_lost(a: Machine, front: Front, evidence: EvidenceBox) -> None:
    """A's first path is lost: the connection through the proxy lives, B notices nothing."""
    ended = survives(
        a,
        front.machine,
        front.service,
        lambda: front.machine.probe.fault("drop", source=a.address(0)),
        evidence,
        origin=(front.origin, front.origin_service),
    )
    evidence.document("back leg", {"proxy": ended.got.peer, "origin": ended.got.local})


@claim("PROXY-7")
def test_plain_client(a: Machine, front: Front) -> None:
    """A plain TCP client is served by the same listener."""
    with front.flow(a, protocol="tcp") as data:
        ended = data.upload(65536)
        assert not is_mptcp(data.stream)
    assert ended.intact
    assert ended.got.bytes_received == 65536
