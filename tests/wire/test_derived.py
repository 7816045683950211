"""Captures derived from sound ones: whatever a capture lacks or has twice, no row calls it a breach.

Each derivation is something that happens to captures: one path of several, one direction, a late start,
other connections between, the same packet on several interfaces, with and without address translation, a
short snap length.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from ipaddress import ip_address
from itertools import groupby, islice
from pathlib import Path

import pytest

from mptcp_lab.wire import Analysis, CaptureFile, Segment, analyse, build_packet, read_frame
from mptcp_lab.wire.analyse import analyse_file
from mptcp_lab.wire.model import Connection, Lack, State
from mptcp_lab.wire.packet import ETHERNET, FIN, SYN
from mptcp_lab.wire.report import is_leftover
from mptcp_lab.wire.rows import ROWS, Outcome
from tests.wire.conftest import CAPTURES, CASES, ODD, capture_paths, named, segments_of

Segments = list[Segment]
SOUND = [*capture_paths(), CASES / "whole.pcap.gz"]


@pytest.fixture(params=SOUND, ids=lambda path: path.name.partition(".")[0])
def sound(request: pytest.FixtureRequest) -> Segments:
    return list(segments_of(request.param))


def breaches(analysis: Analysis) -> list[str]:
    """The breaches that rows report of a host, with the packets, for the message of a failed test."""
    return [
        f"connection {connection.id}: {row.alias} {seen.detail} {seen.packets}"
        for connection in analysis.connections
        for row in ROWS
        if (seen := row.check(connection)).outcome is Outcome.BREACH
    ]


def flows(segments: Segments) -> list[frozenset[tuple[object, int]]]:
    """The two ends of each TCP connection of a capture, in the order in which they begin."""
    return list(dict.fromkeys(flow(each) for each in segments))


def flow(segment: Segment) -> frozenset[tuple[object, int]]:
    return frozenset(((segment.src, segment.sport), (segment.dst, segment.dport)))


def from_client(segments: Segments) -> Callable[[Segment], bool]:
    """Whether a segment comes from who sent the first one."""
    port = segments[0].dport
    return lambda segment: segment.dport == port or segment.sport != port


def test_the_sound_ones_have_no_breach(sound: Segments) -> None:
    assert not breaches(analyse(sound))
    assert not breaches(analyse(sound, is_whole_end=True))


def test_one_path_left_out(sound: Segments) -> None:
    for gone in flows(sound):
        left = [each for each in sound if flow(each) != gone]
        analysis = analyse(left)
        assert not breaches(analysis), gone
        right = analyse(sound)
        if left and acknowledged(analysis) == acknowledged(right) and carried(analysis) != carried(right):
            assert any(each.incomplete for each in analysis.connections), gone


def acknowledged(analysis: Analysis) -> set[int]:
    """The highest DATA_ACKs of a capture."""
    streams = [each for one in analysis.connections for each in (one.client, one.server)]
    return {each.acked for each in streams if each.acked is not None}


def carried(analysis: Analysis) -> list[object]:
    """The data that the captured packets carry, as far as it was acknowledged."""
    streams = [each for one in analysis.connections for each in (one.client, one.server)]
    return [
        [(start, min(end, each.acked or 0)) for start, end in each.mapped if start < (each.acked or 0)]
        for each in streams
    ]


def test_only_one_path_captured(sound: Segments) -> None:
    for only in flows(sound):
        assert not breaches(analyse([each for each in sound if flow(each) == only])), only


@pytest.mark.parametrize("side", [True, False], ids=["client", "server"])
def test_one_direction(sound: Segments, side: bool) -> None:
    is_client = from_client(sound)
    analysis = analyse([each for each in sound if is_client(each) is side])
    assert not breaches(analysis)
    assert all(each.incomplete for each in analysis.connections)


def test_one_direction_of_one_path(sound: Segments) -> None:
    is_client = from_client(sound)
    for one in flows(sound):
        for side in (True, False):
            left = [each for each in sound if flow(each) != one or is_client(each) is side]
            analysis = analyse(left)
            assert not breaches(analysis), (one, side)


def test_a_late_start(sound: Segments) -> None:
    for start in {*range(1, min(60, len(sound))), *range(60, len(sound), 97)}:
        analysis = analyse(sound[start:])
        assert not breaches(analysis), start
        first = flow(sound[0])
        late = [each for each in sound[start:] if flow(each) == first]
        if late and not late[0].flags & SYN:
            assert any(each.incomplete for each in analysis.connections), start


def test_an_early_end(sound: Segments) -> None:
    for end in {*range(1, min(60, len(sound))), *range(60, len(sound), 97)}:
        assert not breaches(analyse(sound[:end])), end


def test_any_one_packet_missing(sound: Segments) -> None:
    """Any that TCP shows to be missing: an acknowledgement alone leaves no trace when a capture loses it."""
    for at in {*range(min(60, len(sound))), *range(60, len(sound), 41)}:
        analysis = analyse(sound[:at] + sound[at + 1 :])
        if (
            sound[at].payload_length
            or sound[at].flags & (SYN | FIN)
            or any(map(lacking, analysis.connections))
        ):
            assert not breaches(analysis), sound[at].number


def test_packets_missing_at_random(sound: Segments) -> None:
    chance = random.Random(8684)
    for share in (0.5, 0.2, 0.05) * 4:
        analysis = analyse([each for each in sound if chance.random() > share])
        if all(map(lacking, analysis.connections)):
            assert not breaches(analysis)


def lacking(connection: Connection) -> bool:
    """Whether it is known that packets of a connection were not captured."""
    return connection.incomplete


def strangers() -> Iterator[Segment]:
    """The packets of another capture's middle, over and over, as of so many other connections."""
    middle = segments_of(named("bulk"))[300:500]
    for round_ in range(1000):
        for each in middle:
            ports = {"sport": each.sport + round_, "dport": each.dport + round_}
            yield replace(each, seq=(each.seq + round_ * 7) % 2**32, **ports)


@pytest.mark.parametrize("many", [1, 30])
def test_strangers_between(sound: Segments, many: int) -> None:
    other = strangers()
    mixed: Segments = []
    for each in sound[:300]:
        mixed.append(each)
        mixed += [replace(next(other), time_ns=each.time_ns) for _ in range(many)]
    mixed = [replace(each, number=number) for number, each in enumerate(mixed, 1)]
    alone, found = breaches(analyse(sound[:300])), breaches(analyse(mixed))
    assert not alone
    assert not found


def translated(segment: Segment, by_port: int = 0) -> Segment:
    """The segment behind a router that masquerades: with the router's address, and maybe its ports."""
    router = ip_address("203.0.113.7" if segment.src.version == 4 else "2001:db8:ffff::7")
    if segment.dport in (7000, 7777, 7999):
        return replace(segment, src=router, sport=segment.sport ^ by_port)
    return replace(segment, dst=router, dport=segment.dport ^ by_port)


def forwarded(segment: Segment, by_port: int = 0) -> Segment:
    """The segment behind a forwarder: the server has another address and another port."""
    there = ip_address("203.0.113.9" if segment.src.version == 4 else "2001:db8:ffff::9")
    if segment.dport in (7000, 7777, 7999):
        return replace(segment, dst=there, dport=segment.dport + 1000 + by_port)
    return replace(segment, src=there, sport=segment.sport + 1000 + by_port)


COPIES: dict[str, Callable[[Segment], Segment]] = {
    "any": lambda segment: segment,
    "masquerade": translated,
    "masquerade-ports": lambda segment: translated(segment, 0x0101),
    "forwarder": forwarded,
    "both": lambda segment: forwarded(translated(segment)),
}


def doubled(segments: Segments, copy: Callable[[Segment], Segment], batch: int = 1) -> Segments:
    """Each packet, then its copy; or so many of one direction, then their copies, as forwarded in batches."""
    is_client = from_client(segments)
    out: Segments = []
    for from_it, run in groupby(segments, is_client):
        for these in iter(lambda run=run: [*islice(run, batch)], []):
            # A packet comes in before it is translated, and an answer after that.
            first = [each if from_it else copy(each) for each in these]
            then = [copy(each) if from_it else each for each in these]
            out += [*first, *(replace(each, time_ns=each.time_ns + 2000) for each in then)]
    return [replace(each, number=number) for number, each in enumerate(out, 1)]


@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize("kind", COPIES)
def test_every_packet_twice(sound: Segments, kind: str, batch: int) -> None:
    """The same connections, subflows and verdicts as without the copies."""
    right, analysis = analyse(sound), analyse(doubled(sound, COPIES[kind], batch))
    assert not breaches(analysis)
    assert [shape(each) for each in analysis.connections] == [shape(each) for each in right.connections]
    # A SYN without IPv4 identification may as well be a retransmission.
    assert analysis.copies >= len(sound) - sum(bool(each.flags & SYN) for each in sound)


def shape(connection: Connection) -> object:
    """The parts of a connection that must be the same if its packets are there twice."""
    halves = [half for each in connection.subflows for half in (each.client, each.server)]
    return (
        connection.state,
        connection.incomplete,
        len(connection.subflows),
        [(half.payload, half.fin_packet is None, half.rst_packet is None) for half in halves],
        [[*stream.mapped] for stream in (connection.client, connection.server)],
        [row.check(connection).outcome for row in ROWS],
    )


@pytest.mark.parametrize("kind", COPIES)
def test_every_packet_twice_from_a_late_start(sound: Segments, kind: str) -> None:
    twice = doubled(sound, COPIES[kind])
    for start in range(1, min(80, len(twice)), 3):
        analysis = analyse(twice[start:])
        assert not breaches(analysis), start


def framed(segment: Segment) -> bytes:
    kind = b"\x08\x00" if segment.src.version == 4 else b"\x86\xdd"
    return bytes(12) + kind + build_packet(replace(segment, payload=bytes(segment.payload_length)))


@cache
def frames_of(path: Path) -> tuple[tuple[bytes, Segment], ...]:
    return tuple((framed(each), each) for each in segments_of(path)[:120])


@pytest.mark.parametrize("path", SOUND, ids=lambda path: path.name.partition(".")[0])
def test_every_snap_length(path: Path) -> None:
    """Where options are cut off nothing is concluded: no breach, no fallback that was none, incomplete."""
    frames = frames_of(path)
    right = {each.state for each in analyse([each for _, each in frames]).connections}
    for snap_length in range(14, 201):
        read = [
            read_frame(ETHERNET, frame[:snap_length], len(frame), each.number, each.time_ns)
            for frame, each in frames
        ]
        segments = [each for each in read if isinstance(each, Segment)]
        analysis = analyse(segments)
        assert not breaches(analysis), snap_length
        cut = sum(each.options_cut for each in segments)
        assert len(segments) == len(frames) or snap_length < 74
        if cut:
            assert any(each.lacks(Lack.HEADERS) for each in analysis.connections), snap_length
        if State.FALLBACK not in right:
            assert not any(each.state is State.FALLBACK for each in analysis.connections), snap_length


@pytest.mark.parametrize("name", ["nat-any.pcap", "version-0.pcap", "two-interfaces.pcapng"])
def test_what_is_left_of_captures_from_the_field(name: str) -> None:
    segments = list(segments_of(CASES / name))
    is_client = from_client(segments)
    for start in range(1, len(segments)):
        assert not breaches(analyse(segments[start:])), start
    for one in flows(segments):
        assert not breaches(analyse([each for each in segments if flow(each) == one])), one
        assert not breaches(analyse([each for each in segments if flow(each) != one])), one
    for side in (True, False):
        assert not breaches(analyse([each for each in segments if is_client(each) is side])), side


CASE_GAPS = {
    "fastclose-in-a-busy-capture.pcap": None,
    "midstream-reset.pcap": Lack.START,
    "nat-any.pcap": None,
    "one-direction-client.pcap": Lack.DIRECTION,
    "one-path-of-two.pcap": Lack.PATH,
    "snaplen-80.pcap": Lack.HEADERS,
    "two-interfaces.pcapng": None,
    "version-0.pcap": None,
    "whole.pcap.gz": None,
}


@pytest.mark.parametrize("name", CASE_GAPS)
def test_captures_from_the_field(name: str) -> None:
    """Each was judged right by hand and by tshark: no breach, and what is missing is named."""
    analysis, capture = analyse_file(CASES / name)
    assert not breaches(analysis)
    first = analysis.connections[0]
    assert (first.gaps[0].lack if first.gaps else None) is CASE_GAPS[name]
    assert not (capture.is_cut or capture.damage)


def test_translated_copies_are_one_connection_of_two_subflows() -> None:
    analysis, _ = analyse_file(CASES / "nat-any.pcap")
    (connection,) = analysis.connections
    assert (len(connection.subflows), analysis.copies, analysis.segments) == (2, 35, 70)


def test_version_0_is_one_connection_whose_tokens_are_sha_1() -> None:
    (connection,) = analyse_file(CASES / "version-0.pcap")[0].connections
    assert (connection.state, connection.version, connection.fallback) == (State.MPTCP, 0, None)
    assert [each.joined for each in connection.subflows] == [False, True]
    assert connection.server.data_fin_acked_packet is not None
    assert {row.check(connection).outcome for row in ROWS} == {Outcome.NOT_OBSERVED}


def test_leftovers_are_no_connections_to_show() -> None:
    analysis, _ = analyse_file(CASES / "fastclose-in-a-busy-capture.pcap")
    assert [is_leftover(each) for each in analysis.connections] == [False, True, True, False]


def test_odd_captures_stay_without_breach() -> None:
    for path in ODD.iterdir():
        if path.name != "disorder.pcapng":
            assert not breaches(analyse(CaptureFile(path))), path


def test_a_breach_is_still_one_when_the_capture_is_whole() -> None:
    """Data that no subflow carried: where all interfaces of an end are captured, a host is at fault."""
    segments = list(segments_of(CAPTURES / "bulk.pcap"))
    other = analyse(segments).connections[0].subflows[1]
    left = [each for each in segments if other.sport not in (each.sport, each.dport)]
    assert not breaches(analyse(left))
    assert {"R29", "R31", "R34"} <= {each.split()[2] for each in breaches(analyse(left, is_whole_end=True))}
