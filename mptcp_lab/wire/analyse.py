"""Segments to connections, one pass, in memory that does not grow with the number of packets.

Findings, by kind (what a right sender and a complete capture never show): `unmapped` payload without
mapping; `mapping-conflict` two mappings for one octet; `data-fin-moved` two DSNs for one DATA_FIN; `data-
ack-back` a DATA_ACK below an earlier one; `data-ack-ahead` a DATA_ACK above what was sent, `data-ack-past-
end` one above a DATA_FIN; `data-ack-short` one of 4 octets for data whose DSN had 8; `window` data beyond
the receive window, `window-kept` data that only a window allows which a duplicate acknowledgement was to
make smaller; `backup-used` new data on a backup subflow while a regular one works; `option- after-
fallback`, `join-after-fallback`; `rst-option` MP_TCPRST without RST.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mptcp_lab.wire import keys
from mptcp_lab.wire.capture import CaptureFile
from mptcp_lab.wire.copies import FlowKey, RecentPackets
from mptcp_lab.wire.gaps import find_gaps
from mptcp_lab.wire.model import Analysis, Connection, Finding, Half, Side, State, Subflow
from mptcp_lab.wire.options import MpCapable, MpCapableV0, MpJoinAck, MpJoinSyn, MptcpOption
from mptcp_lab.wire.packet import ACK, SYN, Segment
from mptcp_lab.wire.step import Step

_Flow = tuple[Connection, Subflow, Side]
_SLACK_NS = 1_000_000
"""Time may step back that far between two CPUs; more: interfaces that were written in turn."""
_STRAY_PACKETS = 4
"""A connection of so few packets, none of them a SYN, may turn out to be another one behind a translator."""


class Analyser:
    """Takes segments in the order of the capture; `finish` gives the result.

    `is_whole_end`: the capture has every interface of one end, so that data which no captured subflow
    carried did not go over a path that was not captured.
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
        """Take one segment."""
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
        """The result, once all segments were taken.

        `unattributed` counts the TCP packets that were cut too short to be segments.
        """
        self._result.connections = [*self._connections.values()]
        for connection in self._result.connections:
            connection.gaps = find_gaps(connection, unattributed)
            if connection.state in (State.MPTCP, State.OPENING):
                _find_unmapped(connection)
        return self._result

    def _is_copy(self, segment: Segment, key: FlowKey, flow: _Flow | None, original: FlowKey) -> bool:
        """Whether a packet seen before, here or with other addresses, is of the same subflow."""
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
        """Open a flow not seen before: a new connection, or a join to one."""
        is_answer = _is_from_server(segment)
        join = next((each for each in segment.options if isinstance(each, MpJoinSyn)), None)
        if join is not None:
            connection, opener = self._joined(join)
        else:
            connection, opener = self._add(State.PARTIAL if segment.options_cut else State.TCP), Side.CLIENT
            if any(isinstance(each, MptcpOption) for each in segment.options):
                is_syn = segment.flags & (SYN | ACK) == SYN
                connection.state = State.OPENING if is_syn else State.PARTIAL
        ends = (segment.src, segment.sport, segment.dst, segment.dport)
        if is_answer:  # its SYN is not in the capture
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

    def _joined(self, join: MpJoinSyn) -> tuple[Connection, Side]:
        known = self._tokens.get(join.token)
        if known is not None:
            return known[0], known[1].peer
        if join.token not in self._orphans:
            orphan = self._add(State.PARTIAL)
            orphan.unknown_token = join.token
            self._orphans[join.token] = orphan
        return self._orphans[join.token], Side.CLIENT

    def _learn_key(self, connection: Connection, side: Side, key: int, packet: int) -> None:
        """Take a key that a host has shown: its token and its initial DSN follow."""
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
    """Whether the first packet of a flow comes from who answered: by its flags, its keys or else its port."""
    if segment.flags & SYN:
        return bool(segment.flags & ACK)
    if any(isinstance(each, (MpCapable, MpCapableV0, MpJoinAck)) for each in segment.options):
        return False
    return segment.sport < segment.dport


def _is_reuse(segment: Segment, subflow: Subflow, side: Side) -> bool:
    """A SYN with another ISN: the ports are used again."""
    if segment.flags & (SYN | ACK) != SYN:
        return False
    half = subflow.half(side)
    return half.isn is not None and half.isn != segment.seq


def _is_leftover(segment: Segment, subflow: Subflow, side: Side) -> bool:
    """A SYN/ACK sent again to an earlier SYN, from ports that are used again since."""
    if segment.flags & (SYN | ACK) != SYN | ACK or subflow.syn is None or side is subflow.opener:
        return False
    return (segment.ack - subflow.syn.seq - 1) % (1 << 32) > subflow.syn.payload_length


def _have_other_syns(one: Connection, other: Connection) -> bool:
    """Whether these are two connections for certain, not one on both sides of an address translator."""
    syns = [each.subflows[0].syn for each in (one, other)]
    return all(syns) and len({syn.seq for syn in syns if syn}) == 2


def _find_unmapped(connection: Connection) -> None:
    for subflow in connection.subflows:
        for half in (subflow.client, subflow.server):
            for start, end, packet in half.unmapped:
                detail = f"subflow {subflow.id}: octets {start} to {end - 1} have no mapping"
                connection.findings.add(Finding("unmapped", packet, half.side, detail))


def analyse(segments: Iterable[Segment], is_whole_end: bool = False) -> Analysis:
    """All connections in `segments`, which come in the order of the capture.

    `is_whole_end`: the segments are all that one end of each connection sent and received, on all its
    interfaces.
    """
    analyser = Analyser(is_whole_end)
    for segment in segments:
        analyser.feed(segment)
    return analyser.finish()


def analyse_file(path: str | Path, is_whole_end: bool = False) -> tuple[Analysis, CaptureFile]:
    """All connections of a capture file, and the file as read. CaptureError if there is no TCP in it.

    An interrupt from the keyboard ends a capture that comes through a pipe; what had come is analysed.
    """
    capture = CaptureFile(path)
    analyser = Analyser(is_whole_end)
    try:
        for segment in capture:
            analyser.feed(segment)
    except KeyboardInterrupt:
        if not capture.segments:
            raise
    return analyser.finish(capture.unattributed), capture
