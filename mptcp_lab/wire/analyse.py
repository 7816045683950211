"""Segments to connections, one pass, in memory that does not grow with the number of packets.

Findings, by kind (what a right sender and a complete capture never show): `unmapped` payload
without mapping; `mapping-conflict` two mappings for one octet; `data-fin-moved` two DSNs for one
DATA_FIN; `data-ack-back` a DATA_ACK below an earlier one; `data-ack-ahead` a DATA_ACK above what
was sent; `data-ack-short` one of 4 octets for data whose DSN had 8; `window` data beyond the
receive window, `window-kept` data that only a window allows which a duplicate acknowledgement
was to make smaller; `backup-used` new data on a backup subflow while a regular one works; `option-
after-fallback`, `join-after-fallback`; `rst-option` MP_TCPRST without RST.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mptcp_lab.wire import keys
from mptcp_lab.wire.capture import CaptureFile
from mptcp_lab.wire.model import Analysis, Connection, Finding, Half, Side, State, Subflow
from mptcp_lab.wire.options import MpJoinSyn, MptcpOption
from mptcp_lab.wire.packet import ACK, SYN, IpAddress, Segment
from mptcp_lab.wire.step import Step

_FlowKey = tuple[IpAddress, int, IpAddress, int]
_SLACK_NS = 1_000_000
"""Time may step back that far between two CPUs; more: interfaces that were written in turn."""


class Analyser:
    """Takes segments in the order of the capture; `finish` gives the result."""

    def __init__(self) -> None:
        self._result = Analysis()
        self._flows: dict[_FlowKey, tuple[Connection, Subflow, Side]] = {}
        self._tokens: dict[int, tuple[Connection, Side]] = {}
        self._keys: dict[int, Connection] = {}
        self._orphans: dict[int, Connection] = {}

    def feed(self, segment: Segment) -> None:
        """Take one segment."""
        result = self._result
        result.segments += 1
        if result.start_ns is None:
            result.start_ns = segment.time_ns
        if segment.time_ns < result.end_ns - _SLACK_NS:
            result.disorder = result.disorder or segment.number
        result.end_ns = max(result.end_ns, segment.time_ns)
        for error in segment.malformed:
            result.malformed.add((segment.number, str(error)))
        key = (segment.src, segment.sport, segment.dst, segment.dport)
        flow = self._flows.get(key)
        if flow is None or _is_reuse(segment, flow[1], flow[2]):
            flow = self._open(segment)
        elif _is_leftover(segment, flow[1], flow[2]):
            return
        Step(self._learn_key, *flow, segment).run()

    def finish(self) -> Analysis:
        """The result, once all segments were taken."""
        for connection in self._result.connections:
            if connection.state in (State.MPTCP, State.OPENING):
                _find_unmapped(connection)
        return self._result

    def _open(self, segment: Segment) -> tuple[Connection, Subflow, Side]:
        """A flow not seen before: a new connection, or a join to one."""
        answer = segment.flags & (SYN | ACK) == SYN | ACK
        join = next((each for each in segment.options if isinstance(each, MpJoinSyn)), None)
        if join is not None:
            connection, opener = self._joined(join)
        else:
            connection, opener = self._add(State.TCP), Side.CLIENT
            if any(isinstance(each, MptcpOption) for each in segment.options):
                is_syn = segment.flags & (SYN | ACK) == SYN
                connection.state = State.OPENING if is_syn else State.PARTIAL
        ends = (segment.src, segment.sport, segment.dst, segment.dport)
        if answer:  # its SYN is not in the capture
            ends = (*ends[2:], *ends[:2])
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
        self._flows[(*ends[2:], *ends[:2])] = (connection, subflow, opener.peer)
        return connection, subflow, opener.peer if answer else opener

    def _add(self, state: State) -> Connection:
        connection = Connection(len(self._result.connections), state)
        self._result.connections.append(connection)
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
        """A host has shown its key: its token and its initial DSN follow."""
        stream = connection.stream(side)
        if stream.key is not None:
            return
        stream.key, stream.token, stream.idsn = key, keys.token(key), keys.idsn(key)
        stream.highest = stream.idsn + 1
        other = self._keys.setdefault(key, connection)
        if other is not connection and not _same_syn(other, connection):
            connection.shared_key = packet
        connection.key_peers = max(connection.key_peers, len(self._keys) - 1)
        self._tokens[stream.token] = (connection, side)


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


def _same_syn(one: Connection, other: Connection) -> bool:
    """One connection seen on both sides of an address translator, as its SYN's sequence number shows."""
    syns = [each.subflows[0].syn for each in (one, other)]
    return all(syns) and len({syn.seq for syn in syns if syn}) == 1


def _find_unmapped(connection: Connection) -> None:
    for subflow in connection.subflows:
        for half in (subflow.client, subflow.server):
            for start, end, packet in half.unmapped:
                detail = f"subflow {subflow.id}: octets {start} to {end - 1} have no mapping"
                connection.findings.add(Finding("unmapped", packet, half.side, detail))


def analyse(segments: Iterable[Segment]) -> Analysis:
    """All connections in `segments`, which come in the order of the capture."""
    analyser = Analyser()
    for segment in segments:
        analyser.feed(segment)
    return analyser.finish()


def analyse_file(path: str | Path) -> tuple[Analysis, CaptureFile]:
    """All connections of a capture file, and the file as read. CaptureError if there is no TCP in it."""
    capture = CaptureFile(path)
    return analyse(capture), capture
