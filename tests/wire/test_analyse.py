"""Connections of the kernel's captures, and what the analyser does when packets are missing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mptcp_lab.wire import Analysis, Dss, MpJoinSyn, Segment, Side, State, analyse
from mptcp_lab.wire.model import KEPT
from mptcp_lab.wire.packet import SYN
from mptcp_lab.wire.ranges import RangeSet
from mptcp_lab.wire.step_tcp import unwrap
from tests.wire.conftest import ODD, analysis_of, named, segments_of

STATES = {
    "handshake": (State.MPTCP, 1),
    "join": (State.MPTCP, 3),
    "failover": (State.MPTCP, 2),
    "bulk": (State.MPTCP, 2),
    "plain_client": (State.TCP, 1),
    "fallback_synack": (State.FALLBACK, 1),
    "fallback_third_ack": (State.FALLBACK, 1),
    "fallback_ack": (State.FALLBACK, 1),
    "checksum_failure": (State.FALLBACK, 1),
    "checksum_failure_two": (State.MPTCP, 2),
    "join_unknown_token": (State.PARTIAL, 1),
}


@pytest.mark.parametrize("name", STATES)
def test_states_and_subflows(name: str) -> None:
    (connection,) = analysis_of(named(name)).connections
    assert (connection.state, len(connection.subflows)) == STATES[name]


def test_reasons_of_fallback() -> None:
    reasons = {
        name: fallback.reason
        for name in STATES
        if (fallback := analysis_of(named(name)).connections[0].fallback) is not None
    }
    assert reasons == {
        "fallback_synack": "SYN/ACK without MP_CAPABLE",
        "fallback_third_ack": "third packet without MP_CAPABLE",
        "fallback_ack": "first data without DSS",
        "checksum_failure": "infinite mapping",
    }


def test_octets_of_the_transfers() -> None:
    """The data that the makers of the captures sent."""
    for name, octets in {"bulk": 1_500_300, "failover": 500_600, "handshake": 300, "half_close": 100}.items():
        (connection,) = analysis_of(named(name)).connections
        assert sum(end - start for start, end in connection.client.mapped) == octets
        assert connection.client.data_fin_acked_packet is not None


def test_failover_is_seen_as_reinjection_on_the_other_subflow() -> None:
    (connection,) = analysis_of(named("failover")).connections
    first = connection.reinjections[0]
    assert (first.side, first.subflow, first.of_subflow) == (Side.CLIENT, 1, 0)
    assert first.of_packet is not None
    assert first.of_packet < first.packet


def findings(segments: list[Segment]) -> list[str]:
    return [each.kind for connection in analyse(segments).connections for each in connection.findings]


@pytest.mark.parametrize("name", ["handshake", "join", "bulk", "failover", "backup"])
def test_packets_missing_from_a_capture_are_nobodys_fault(name: str) -> None:
    """Whatever packet the capture lost: no row of the data path says breach."""
    from mptcp_lab.wire.rows import ROWS, Outcome

    segments = list(segments_of(named(name)))
    data_rows = [row for row in ROWS if row.alias in ("R28", "R29", "R31", "R32", "R34")]
    with_payload = [at for at, each in enumerate(segments) if each.payload_length]
    for at in with_payload[:: max(1, len(with_payload) // 20)]:
        analysis = analyse(segments[:at] + segments[at + 1 :])
        for connection in analysis.connections:
            breaches = [row.alias for row in data_rows if row.check(connection).outcome is Outcome.BREACH]
            assert not breaches, f"without packet {segments[at].number}"


@pytest.mark.parametrize("name", ["handshake", "join", "bulk"])
def test_a_capture_that_starts_late_is_partial_and_clean(name: str) -> None:
    segments = list(segments_of(named(name)))
    for start in (1, 3, 5, 12):
        analysis = analyse(segments[start:])
        assert analysis.connections
        assert not [each for connection in analysis.connections for each in connection.findings]


def test_a_mapping_that_comes_late_fills_its_hole() -> None:
    """As at a receiver after loss: a later packet of the subflow is there before an earlier one."""
    segments = list(segments_of(named("bulk")))
    mappings = [
        (at, each.sport)
        for at, each in enumerate(segments)
        for dss in each.options
        if isinstance(dss, Dss) and each.dport == 7000 and dss.data_length == each.payload_length > 1000
    ]
    at, after = next(
        (one, other)
        for one, port in mappings
        for other, its_port in mappings
        if one < other < one + 4 and port == its_port
    )
    late = [*segments[:at], *segments[at + 1 : after + 1], segments[at], *segments[after + 1 :]]
    (right,), (connection,) = analysis_of(named("bulk")).connections, analyse(late).connections
    assert not connection.findings_of("unmapped", "mapping-conflict")
    assert connection.client.reinjected == right.client.reinjected == 0
    assert [*connection.client.mapped] == [*right.client.mapped]


def test_ports_used_again_are_a_new_connection() -> None:
    segments = list(segments_of(named("handshake")))
    again = [
        replace(each, seq=(each.seq + 10_000_000) % 2**32, number=each.number + 100) for each in segments
    ]
    assert len(analyse(segments + again).connections) == 2


def test_a_syn_sent_again_is_not() -> None:
    segments = list(segments_of(named("handshake")))
    again = replace(segments[0], time_ns=segments[0].time_ns + 1_000_000_000)
    (connection,) = analyse([segments[0], again, *segments[1:]]).connections
    assert connection.subflows[0].syns == 2


def test_a_syn_ack_to_an_earlier_syn_from_these_ports_is_no_answer() -> None:
    """A listener repeats its SYN/ACK to a join that came to nothing; meanwhile the port is used again."""
    segments = list(segments_of(named("join")))
    (right,) = analyse(segments).connections
    syn_ack = right.subflows[1].syn_ack
    assert syn_ack is not None
    at = next(i for i, each in enumerate(segments) if each.number == syn_ack.number)
    stale = replace(syn_ack, seq=7, ack=(syn_ack.ack + 10_000_000) % 2**32, number=1000)
    (connection,) = analyse([*segments[:at], stale, *segments[at:]]).connections
    assert connection.subflows[1].syn_ack == syn_ack
    assert [*connection.server.mapped] == [*right.server.mapped]


def test_joins_to_one_unknown_token_are_one_connection() -> None:
    (join,) = (each for each in segments_of(named("join_unknown_token")) if each.flags & SYN)
    analysis: Analysis = analyse(
        [join, replace(join, sport=5, seq=5), replace(join, sport=6, options=(MpJoinSyn(1, 9, 9),))]
    )
    assert [len(each.subflows) for each in analysis.connections] == [2, 1]


def test_a_flood_of_findings_stays_small() -> None:
    segments = list(segments_of(named("handshake")))
    bare = [
        replace(each, options=tuple(o for o in each.options if not isinstance(o, Dss)) or (Dss(),))
        for each in segments
        if each.payload_length
    ]
    flood = [replace(bare[-1], seq=(bare[-1].seq + 200 * n) % 2**32) for n in range(1000)]
    (connection,) = analyse(segments[:8] + flood).connections
    assert connection.findings.total > KEPT == len(connection.findings)


def test_ranges() -> None:
    ranges = RangeSet()
    assert [ranges.add(*each) for each in [(10, 20), (30, 40), (20, 25), (5, 12), (24, 31)]] == [
        0,
        0,
        0,
        2,
        2,
    ]
    assert list(ranges) == [(5, 40)]
    assert ranges.covers(5, 40)
    assert not ranges.covers(4, 6)
    assert not ranges.covers(39, 41)
    assert ranges.add(50, 50) == 0


def test_what_is_missing_of_ranges() -> None:
    ranges = RangeSet()
    for start, end in ((10, 20), (30, 40)):
        ranges.add(start, end)
    assert ranges.missing_parts(0, 50) == [(0, 10), (20, 30), (40, 50)]
    assert ranges.missing_parts(12, 35) == [(20, 30)]
    assert ranges.missing_parts(30, 40) == []
    assert ranges.missing_parts(20, 30) == [(20, 30)]


def test_near_undoes_the_wrap() -> None:
    assert unwrap(5, 32, (1 << 32) - 3) == (1 << 32) + 5
    assert unwrap((1 << 32) - 3, 32, (1 << 32) + 5) == (1 << 32) - 3
    assert unwrap(7, 32, 7) == 7


def test_a_window_that_a_duplicate_acknowledgement_makes_smaller_still_counts() -> None:
    """Seen of Linux 6.18: a duplicate acknowledgement moves DATA_ACK and shrinks the window."""
    (connection,) = analysis_of(ODD / "shrunk_window.pcapng").connections
    assert (connection.state, len(connection.subflows), connection.incomplete) == (State.MPTCP, 4, False)
    (kept,) = connection.findings_of("window-kept")
    assert kept.detail == "data up to 15934123070907735749, the window ends at 15934123070907723125"
    assert not connection.findings_of("window")


def test_data_beyond_every_window_is_found_beside_one_that_was_kept() -> None:
    """The same with all windows shut to a hundredth: nothing that TCP keeps allows what is sent."""
    segments = [
        replace(each, window=each.window // 100) for each in segments_of(ODD / "shrunk_window.pcapng")
    ]
    (connection,) = analyse(segments).connections
    assert connection.findings_of("window")
