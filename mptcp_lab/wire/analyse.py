"""Assign TCP segments to MPTCP connections in one pass; memory does not grow with the number of packets.

A finding is something that a correct sender and a complete capture never show. Its kind is one of:

- `unmapped`: payload without a mapping.
- `mapping-conflict`: two mappings give one octet of a subflow different DSNs.
- `data-fin-moved`: two DATA_FINs of one stream have different DSNs.
- `data-ack-back`: a DATA_ACK is lower than an earlier one on the same subflow.
- `data-ack-ahead`: a DATA_ACK is higher than the data that was sent.
- `data-ack-past-end`: a DATA_ACK is higher than the data that was sent and than the DATA_FIN.
- `data-ack-short`: a DATA_ACK of 4 octets acknowledges data whose DSN had 8 octets.
- `window`: new data ends beyond every receive window.
- `window-kept`: new data ends beyond the window of a duplicate acknowledgement, but fits the larger window
  before it.
- `backup-used`: new data is sent on a backup subflow while a regular subflow works.
- `option-after-fallback`, `join-after-fallback`: an MPTCP option or a join comes after the fallback to TCP.
- `rst-option`: MP_TCPRST is on a segment without RST.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mptcp_lab.wire import keys
from mptcp_lab.wire.capture import CaptureFile
from mptcp_lab.wire.copies import FlowKey, RecentPackets
from mptcp_lab.wire.gaps import find_gaps
from mptcp_lab.wire.model import Analysis, Connection, Finding, Half, Side, State, Subflow
from mptcp_lab.wire.options.base import MptcpOption
from mptcp_lab.wire.options.handshake import MpCapable, MpCapableV0
from mptcp_lab.wire.options.joins import MpJoinAck, MpJoinSyn
from mptcp_lab.wire.packet import ACK, SYN, Segment
from mptcp_lab.wire.step import Step

_Flow = tuple[Connection, Subflow, Side]
#: Packets may be captured on two CPUs, so time may step back by up to this many nanoseconds. A greater
#: step means that interfaces were written one after the other.
_SLACK_NS = 1_000_000
#: A connection with at most this many packets and no SYN may be a part of another connection, seen behind
#: a router that translates addresses.
_STRAY_PACKETS = 4


class Analyser:
    """Analyse segments: call `feed` for each segment in the order of the capture, then `finish` once.

    `is_whole_end` states that the capture has every interface of one end. Data that no captured subflow
    carried was then not sent over a path that was not captured.
    """

    def __init__(self, is_whole_end: bool = False) -> None:
        self._is_whole_end = is_whole_end
        self._result = Analysis()
        self._recent = RecentPackets()
        self._flows: dict[FlowKey, _Flow] = {}
        self._tokens: dict[int, tuple[Connection, Side]] = {}
        self._keys: dict[int, Connection] = {}
        self._orphans: dict[int, Connection] = {}
        self._connections: dict[int, Connection] = {}
        self._next_id = 0

    def feed(self, segment: Segment) -> None:
        """Process one segment."""
        result = self._result
        result.segments += 1
        if result.start_ns is None:
            result.start_ns = segment.time_ns
        if segment.time_ns < result.end_ns - _SLACK_NS:
            result.disorder = result.disorder or segment.number
        result.end_ns = max(result.end_ns, segment.time_ns)
        key = (segment.src, segment.sport, segment.dst, segment.dport)
        original = self._recent.find(segment, key)
        flow = self._flows.get(key)
        if original is not None and self._is_copy(segment, key, flow, original):
            result.copies += 1
            return
        for error in segment.malformed:
            result.malformed.add((segment.number, str(error)))
        if flow is None or _is_reuse(segment, flow[1], flow[2]):
            flow = self._open(segment)
        elif _is_leftover(segment, flow[1], flow[2]):
            return
        Step(self._learn_key, *flow, segment).run()

    def finish(self, unattributed: int = 0) -> Analysis:
        """Return the result, after the last segment was fed.

        `unattributed` is the number of TCP packets that were cut too short to be read as segments.
        """
        self._result.connections = [*self._connections.values()]
        for connection in self._result.connections:
            connection.gaps = find_gaps(connection, unattributed)
            if connection.state in (State.MPTCP, State.OPENING):
                _find_unmapped(connection)
        return self._result

    def _is_copy(self, segment: Segment, key: FlowKey, flow: _Flow | None, original: FlowKey) -> bool:
        """Return whether a packet is a copy of the packet that was seen in the flow `original`.

        A copy with translated addresses makes its addresses another name of the same subflow.
        """
        if key == original:
            return True
        other = self._flows.get(original)
        if other is None or key == _reverse(original):
            return False
        if flow is not None and flow[1] is other[1]:
            return True
        if flow is None or _is_reuse(segment, flow[1], flow[2]) or self._is_stray(flow[0]):
            if flow is not None and self._is_stray(flow[0]):
                del self._connections[flow[0].id]
            self._flows[key] = other
            self._flows[_reverse(key)] = (other[0], other[1], other[2].peer)
            other[0].is_translated = True
            return True
        return False

    def _is_stray(self, connection: Connection) -> bool:
        is_small = connection.packets <= _STRAY_PACKETS and len(connection.subflows) == 1
        return is_small and connection.subflows[0].syn is None and connection.id in self._connections

    def _open(self, segment: Segment) -> _Flow:
        """Add a flow that was not seen before: the first subflow of a new connection, or a join."""
        is_answer = _is_from_server(segment)
        join = next((each for each in segment.options if isinstance(each, MpJoinSyn)), None)
        if join is not None:
            connection, opener = self._find_joined(join)
        else:
            connection, opener = self._add(State.PARTIAL if segment.options_cut else State.TCP), Side.CLIENT
            if any(isinstance(each, MptcpOption) for each in segment.options):
                is_syn = segment.flags & (SYN | ACK) == SYN
                connection.state = State.OPENING if is_syn else State.PARTIAL
        ends = (segment.src, segment.sport, segment.dst, segment.dport)
        if is_answer:  # the client's SYN is not in the capture
            ends = _reverse(ends)
        subflow = Subflow(
            len(connection.subflows),
            opener,
            *ends,
            segment.time_ns,
            Half(Side.CLIENT),
            Half(Side.SERVER),
            segment.number,
            joined=join is not None,
        )
        connection.subflows.append(subflow)
        self._flows[ends] = (connection, subflow, opener)
        self._flows[_reverse(ends)] = (connection, subflow, opener.peer)
        return connection, subflow, opener.peer if is_answer else opener

    def _add(self, state: State) -> Connection:
        connection = Connection(self._next_id, state, self._is_whole_end)
        self._connections[self._next_id] = connection
        self._next_id += 1
        return connection

    def _find_joined(self, join: MpJoinSyn) -> tuple[Connection, Side]:
        known = self._tokens.get(join.token)
        if known is not None:
            return known[0], known[1].peer
        if join.token not in self._orphans:
            orphan = self._add(State.PARTIAL)
            orphan.unknown_token = join.token
            self._orphans[join.token] = orphan
        return self._orphans[join.token], Side.CLIENT

    def _learn_key(self, connection: Connection, side: Side, key: int, packet: int) -> None:
        """Store the key that a packet shows for one side, and derive its token and initial DSN."""
        stream = connection.stream(side)
        if stream.key is not None:
            return
        is_old = connection.version == 0
        stream.key = key
        stream.token = keys.token_v0(key) if is_old else keys.token(key)
        stream.idsn = keys.idsn_v0(key) if is_old else keys.idsn(key)
        stream.highest = stream.idsn + 1
        other = self._keys.setdefault(key, connection)
        if other is not connection and _have_other_syns(other, connection):
            connection.shared_key = packet
        connection.key_peers = max(connection.key_peers, len(self._keys) - 1)
        self._tokens[stream.token] = (connection, side)


def _reverse(flow: FlowKey) -> FlowKey:
    return (*flow[2:], *flow[:2])


def _is_from_server(segment: Segment) -> bool:
    """Return whether the server sent the first captured packet of a flow.

    SYN and ACK flags decide; without SYN, an option that only a client sends; else the lower port number.
    """
    if segment.flags & SYN:
        return bool(segment.flags & ACK)
    if any(isinstance(each, (MpCapable, MpCapableV0, MpJoinAck)) for each in segment.options):
        return False
    return segment.sport < segment.dport


def _is_reuse(segment: Segment, subflow: Subflow, side: Side) -> bool:
    """Return whether this is a SYN with another ISN, which means that the ports are used again."""
    if segment.flags & (SYN | ACK) != SYN:
        return False
    half = subflow.half(side)
    return half.isn is not None and half.isn != segment.seq


def _is_leftover(segment: Segment, subflow: Subflow, side: Side) -> bool:
    """Return whether this is a retransmitted SYN/ACK of an earlier connection that used the same ports."""
    if segment.flags & (SYN | ACK) != SYN | ACK or subflow.syn is None or side is subflow.opener:
        return False
    return (segment.ack - subflow.syn.seq - 1) % (1 << 32) > subflow.syn.payload_length


def _have_other_syns(one: Connection, other: Connection) -> bool:
    """Return whether two connections have captured SYNs with different ISNs.

    Such connections are certainly two, not one that was captured on both sides of an address translator.
    """
    syns = [each.subflows[0].syn for each in (one, other)]
    return all(syns) and len({syn.seq for syn in syns if syn}) == 2


def _find_unmapped(connection: Connection) -> None:
    for subflow in connection.subflows:
        for half in (subflow.client, subflow.server):
            for start, end, packet in half.unmapped:
                detail = f"subflow {subflow.id}: octets {start} to {end - 1} have no mapping"
                connection.findings.add(Finding("unmapped", packet, half.side, detail))


def analyse(segments: Iterable[Segment], is_whole_end: bool = False) -> Analysis:
    """Return all connections in `segments`, which must be in the order of the capture.

    `is_whole_end` states that the segments are all that one end of each connection sent and received, on
    all its interfaces.
    """
    analyser = Analyser(is_whole_end)
    for segment in segments:
        analyser.feed(segment)
    return analyser.finish()


def analyse_file(path: str | Path, is_whole_end: bool = False) -> tuple[Analysis, CaptureFile]:
    """Return all connections of a capture file, and the file object with its packet counts.

    A keyboard interrupt ends a capture that comes through a pipe; the segments read so far are analysed.

    Raises:
        CaptureError: the file cannot be read, is not a capture, or contains no TCP.
        KeyboardInterrupt: the interrupt came before the first TCP segment.
    """
    capture = CaptureFile(path)
    analyser = Analyser(is_whole_end)
    try:
        for segment in capture:
            analyser.feed(segment)
    except KeyboardInterrupt:
        if not capture.segments:
            raise
    return analyser.finish(capture.unattributed_count), capture
