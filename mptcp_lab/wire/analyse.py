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
from mptcp_lab.wire.codec import WINDOW_SCALE, TcpOption
from mptcp_lab.wire.model import (
    Analysis,
    Announcement,
    Connection,
    Event,
    Fallback,
    Finding,
    Half,
    MappedRange,
    Reinjection,
    Sent,
    Side,
    State,
    Stream,
    Subflow,
)
from mptcp_lab.wire.options import (
    AddAddr,
    AddAddrV0,
    Dss,
    MpCapable,
    MpCapableV0,
    MpFail,
    MpFastclose,
    MpJoinSyn,
    MpJoinSynAck,
    MpPrio,
    MpPrioV0,
    MptcpOption,
    RemoveAddr,
    TcpRst,
)
from mptcp_lab.wire.packet import ACK, FIN, RST, SYN, IpAddress, Segment

_FlowKey = tuple[IpAddress, int, IpAddress, int]
_SLACK_NS = 1_000_000
"""Time may step back that far between two CPUs; more: interfaces that were written in turn."""
_MOST_UNACKED = 4096
"""Mappings kept per stream and ranges per direction where no acknowledgements prune them."""


def near(value: int, bits: int, reference: int) -> int:
    """The number closest to `reference` with `value` as its last `bits` bits: undoes sequence number wrap."""
    span = 1 << bits
    distance = (value - reference) % span
    return reference + (distance - span if distance >= span // 2 else distance)


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
        _Step(self, *flow, segment).run()

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

    def learn_key(self, connection: Connection, side: Side, key: int, packet: int) -> None:
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


class _Step:
    """One segment and where it belongs."""

    __slots__ = ("analyser", "connection", "half", "other", "segment", "side", "ssn", "subflow")

    def __init__(
        self, analyser: Analyser, connection: Connection, subflow: Subflow, side: Side, segment: Segment
    ) -> None:
        self.analyser = analyser
        self.connection = connection
        self.subflow = subflow
        self.side = side
        self.segment = segment
        self.half = subflow.half(side)
        self.other = subflow.half(side.peer)
        self.ssn = 0

    def run(self) -> None:
        segment, subflow = self.segment, self.subflow
        subflow.last_ns, subflow.last_packet = segment.time_ns, segment.number
        options = [each for each in segment.options if isinstance(each, MptcpOption)]
        self._sync(options)
        in_order = self._track()
        if segment.flags & SYN:
            self._syn(options)
        elif subflow.ack is None and self.side is subflow.opener and not segment.flags & RST:
            self._third(options)
        if options:
            self._options(options, in_order)
        if segment.payload_length and not segment.flags & SYN:
            self._payload(bool(options))
        if segment.flags & FIN and self.half.fin_packet is None:
            self.half.fin_packet = segment.number
        if segment.flags & RST and self.half.rst_packet is None:
            self.half.rst_packet = segment.number

    def find(self, kind: str, detail: str) -> None:
        self.connection.findings.add(Finding(kind, self.segment.number, self.side, detail))

    # TCP

    def _sync(self, options: list[MptcpOption]) -> None:
        """Learn where the sequence numbers start, from a SYN, a SYN/ACK's acknowledgement or a mapping."""
        segment, half = self.segment, self.half
        if segment.flags & SYN:
            half.isn, half.synced = segment.seq, True
        elif half.isn is None:
            dss = next((each for each in options if isinstance(each, Dss)), None)
            first = dss.subflow_seq if dss and segment.payload_length else None
            half.isn = (segment.seq - (first or 1)) % (1 << 32)
            half.synced = bool(first)
            half.next_ssn = first or 1
        if segment.flags & ACK and self.other.isn is None:
            self.other.isn = (segment.ack - 1) % (1 << 32)
            self.other.synced = bool(segment.flags & SYN)
            self.other.next_ssn = 1
            self.other.seen.add(0, 1)

    def _track(self) -> bool:
        """Count payload and acknowledgements; whether this segment is newer than all before it."""
        segment, half, other = self.segment, self.half, self.other
        assert half.isn is not None
        self.ssn = near((segment.seq - half.isn) % (1 << 32), 32, half.next_ssn)
        length = segment.payload_length
        size = length + bool(segment.flags & SYN) + bool(segment.flags & FIN)
        end = self.ssn + size
        again = half.seen.add(self.ssn, end)
        fresh = max(0, size - again)
        half.payload += min(fresh, length)
        if length:
            half.resending = fresh < length
            half.retransmitted += length - min(fresh, length)
        newest = self.ssn >= half.next_ssn
        half.next_ssn = max(half.next_ssn, end)
        if segment.flags & ACK and other.isn is not None and not segment.flags & RST:
            acked = near((segment.ack - other.isn) % (1 << 32), 32, other.acked)
            newest = newest and acked >= other.acked
            self._take_window(acked > other.acked)
            if acked > other.acked:
                # Sequence number 0 is the SYN, which a capture may start after.
                if not other.seen.covers(max(1, other.acked), acked):
                    other.missing = other.missing or other.synced
                    other.next_ssn = max(other.next_ssn, acked)
                other.acked = acked
                while other.ranges and other.ranges[0].end <= acked:
                    other.ranges.popleft()
        return newest

    def _take_window(self, acknowledges: bool) -> None:
        """Take this segment's window where Linux does (net/ipv4/tcp_input.c, tcp_may_update_window).

        It does where the segment acknowledges something new or is newer, and else only for a larger one.
        """
        segment, half = self.segment, self.half
        larger = self.ssn == half.window_seq and segment.window > half.window
        if acknowledges or self.ssn > half.window_seq or larger:
            half.window, half.window_seq = segment.window, self.ssn

    def _syn(self, options: list[MptcpOption]) -> None:
        segment, subflow, connection = self.segment, self.subflow, self.connection
        for option in segment.options:
            if isinstance(option, TcpOption) and option.kind == WINDOW_SCALE and option.data:
                self.half.window_scale = min(option.data[0], 14)
        if segment.flags & ACK:
            if subflow.syn_ack is None:
                subflow.syn_ack = segment
            if subflow.syn is not None:
                self.other.syn_data = min(self.other.acked - 1, subflow.syn.payload_length)
            if connection.state is State.OPENING and not options:
                self._fall_back("SYN/ACK without MP_CAPABLE")
                self.half.plain_end = 1
            return
        subflow.syns += 1
        if subflow.syn is None:
            subflow.syn = segment
            if connection.fallback and subflow.joined:
                self.find("join-after-fallback", "MP_JOIN after the connection fell back to TCP")
        elif connection.state is State.OPENING and not options:
            self._fall_back("SYN sent again without MP_CAPABLE")

    def _third(self, options: list[MptcpOption]) -> None:
        """The opener's first packet after the handshake's SYN."""
        segment, subflow, connection = self.segment, self.subflow, self.connection
        subflow.ack = segment
        if subflow.syn_ack is not None:
            subflow.established_ns, subflow.established_packet = segment.time_ns, segment.number
        capable = any(isinstance(each, MpCapable) for each in options)
        confirmed = Side.SERVER in connection.first_dss
        if connection.state is State.OPENING and not capable and not confirmed and self.ssn == 1:
            self._fall_back("third packet without MP_CAPABLE")
        elif connection.state is State.OPENING:
            connection.state = State.MPTCP

    def _fall_back(self, reason: str) -> None:
        connection, segment = self.connection, self.segment
        if connection.fallback is None:
            connection.fallback = Fallback(segment.number, segment.time_ns, reason)
            connection.state = State.FALLBACK

    # Options

    def _options(self, options: list[MptcpOption], in_order: bool) -> None:
        segment, connection = self.segment, self.connection
        self.half.mptcp_packets += 1
        if connection.state is State.TCP:
            connection.state = State.PARTIAL
        fallback = connection.fallback
        if fallback and self.other.plain_end is not None and segment.number != fallback.packet:
            assert self.other.isn is not None
            if near((segment.ack - self.other.isn) % (1 << 32), 32, self.other.acked) >= self.other.plain_end:
                names = ", ".join(each.name for each in options)
                self.find("option-after-fallback", f"{names} after the peer was seen to be TCP")
        for option in options:
            match option:
                case Dss():
                    self._dss(option, in_order)
                case MpCapable():
                    self._capable(option)
                case MpJoinSyn():
                    self.subflow.opener_id = option.address_id
                    self.half.backup = option.backup
                case MpJoinSynAck():
                    self.subflow.responder_id = option.address_id
                    self.half.backup = option.backup
                    self.subflow.joined = True
                case AddAddr():
                    self._add_addr(option)
                case AddAddrV0():
                    connection.old_announcements.add(self._event(option))
                case RemoveAddr():
                    connection.removals.add(self._event(option))
                case MpPrioV0():
                    connection.priorities.add(self._event(option))
                case MpPrio():
                    self.half.backup = option.backup
                    connection.priorities.add(self._event(option))
                case MpFail():
                    connection.fails.add(self._event(option))
                case MpFastclose():
                    connection.fastcloses.add(self._event(option))
                case TcpRst():
                    connection.resets.add(self._event(option))
                    if not segment.flags & RST:
                        self.find("rst-option", "MP_TCPRST on a segment without RST")
                case MpCapableV0():
                    self._version_0()

    def _event(self, option: MptcpOption) -> Event:
        segment = self.segment
        on_rst = bool(segment.flags & RST)
        return Event(segment.number, segment.time_ns, self.side, self.subflow.id, option, on_rst)

    def _version_0(self) -> None:
        """Version 0 derives everything by other means: known by name, followed as TCP."""
        self._fall_back("MP_CAPABLE of version 0")

    def _add_addr(self, option: AddAddr) -> None:
        segment = self.segment
        if option.echo:
            self.connection.echoes.add(self._event(option))
            return
        self.connection.announcements.add(
            Announcement(segment.number, segment.time_ns, self.side, self.subflow.id, option, segment.sport)
        )

    def _capable(self, option: MpCapable) -> None:
        connection, segment = self.connection, self.segment
        if option.sender_key is None:
            return
        self.analyser.learn_key(connection, self.side, option.sender_key, segment.number)
        if segment.flags & SYN:
            return
        if option.receiver_key is not None:
            self.analyser.learn_key(connection, self.side.peer, option.receiver_key, segment.number)
        self._first_windows()
        stream = connection.stream(self.side)
        if option.data_length and stream.idsn is not None:
            first = Dss(
                dsn=stream.idsn + 1,
                subflow_seq=1,
                data_length=option.data_length,
                checksum=option.checksum,
            )
            self._mapping(first, octets=0)

    def _first_windows(self) -> None:
        """Before any DATA_ACK, the windows of the handshake count from the initial DSNs."""
        syn_ack, connection = self.subflow.syn_ack, self.connection
        mine, theirs = connection.stream(self.side), connection.stream(self.side.peer)
        if mine.edge is None and mine.idsn is not None and syn_ack is not None:
            mine.edge = mine.reach = mine.idsn + 1 + syn_ack.window
        if theirs.edge is None and theirs.idsn is not None:
            theirs.edge = theirs.reach = theirs.idsn + 1 + self._scaled(self.segment.window, theirs)

    def _scaled(self, window: int, stream: Stream) -> int:
        """This side's `window` for `stream`, scaled if both SYNs offered that; 0 without those SYNs."""
        syn, syn_ack = self.subflow.syn, self.subflow.syn_ack
        if syn is None or syn_ack is None:
            stream.scale_unknown = True
            return 0
        both = all(
            any(isinstance(each, TcpOption) and each.kind == WINDOW_SCALE for each in segment.options)
            for segment in (syn, syn_ack)
        )
        return window << (self.half.window_scale if both else 0)

    # Data

    def _dss(self, dss: Dss, in_order: bool) -> None:
        self.connection.first_dss.setdefault(self.side, self.segment.number)
        if self.connection.state is State.OPENING:
            self.connection.state = State.MPTCP
        if dss.data_ack is not None:
            self._data_ack(dss.data_ack, dss.data_ack_octets, in_order)
        if dss.dsn is not None:
            self._mapping(dss, dss.dsn_octets)

    def _data_ack(self, value: int, octets: int, in_order: bool) -> None:
        connection, segment = self.connection, self.segment
        stream = connection.stream(self.side.peer)
        reference = stream.acked if stream.acked is not None else stream.highest
        acked = value if octets == 8 or reference is None else near(value, 32, reference)
        stream.data_acks += 1
        stream.data_acks_short += octets == 4
        if in_order and self.half.data_ack is not None and acked < self.half.data_ack:
            self.find("data-ack-back", f"DATA_ACK {acked} after {self.half.data_ack} on this subflow")
        self.half.data_ack = max(acked, self.half.data_ack or acked)
        # Of a partial connection, other subflows may be in the capture as strangers.
        whole = connection.state is not State.PARTIAL and stream.first_dsn is not None
        if whole and stream.highest is not None and acked > stream.highest:
            self.find("data-ack-ahead", f"DATA_ACK {acked}, data ends at {stream.highest}")
        stream.edge = max(acked + self._scaled(segment.window, stream), stream.edge or 0)
        stream.reach = max(acked + self._scaled(self.half.window, stream), stream.edge, stream.reach or 0)
        if stream.acked is None or acked > stream.acked:
            if octets == 4:
                self._short_data_ack(stream, acked)
            stream.acked, stream.acked_packet = acked, segment.number
            while stream.unacked and stream.unacked[0].end <= acked:
                stream.unacked.popleft()
        if stream.data_fin is not None and acked > stream.data_fin and stream.data_fin_acked_packet is None:
            stream.data_fin_acked_packet = segment.number
            start = stream.idsn + 1 if stream.idsn is not None else stream.first_dsn
            if (
                start is not None
                and start < stream.data_fin
                and not stream.mapped.covers(start, stream.data_fin)
            ):
                stream.early_fin_ack = segment.number

    def _short_data_ack(self, stream: Stream, acked: int) -> None:
        """3.3.2: what came with a 64-bit DSN is acknowledged with one."""
        for each in stream.unacked:
            if each.octets == 8 and each.start < acked and (stream.acked is None or each.end > stream.acked):
                detail = f"DATA_ACK of 4 octets for data that packet {each.packet} maps with 8"
                self.find("data-ack-short", detail)
                return

    def _mapping(self, dss: Dss, octets: int) -> None:
        assert dss.dsn is not None and dss.subflow_seq is not None and dss.data_length is not None
        segment, half = self.segment, self.half
        stream = self.connection.stream(self.side)
        if dss.data_length == 0:
            self._fall_back("infinite mapping")
            return
        dsn = dss.dsn
        if octets == 4 and stream.highest is not None:
            dsn = near(dsn, 32, stream.highest)
        length = dss.data_length - dss.data_fin
        self._count_checksum(stream, dss)
        if stream.first_dsn is None:
            stream.first_dsn, stream.first_packet = dsn, segment.number
        if length:
            if half.first_mapping is None:
                half.first_mapping = dss.subflow_seq
            start = near(dss.subflow_seq, 32, half.next_ssn - half.syn_data) + half.syn_data
            self._map(stream, start, start + length, dsn, octets)
        if dss.data_fin:
            self._data_fin(stream, dsn + length)
        stream.highest = max(dsn + dss.data_length, stream.highest or 0)

    def _count_checksum(self, stream: Stream, dss: Dss) -> None:
        stream.mappings += 1
        if dss.checksum is not None:
            stream.checksummed += 1
            stream.first_checksummed = stream.first_checksummed or self.segment.number
        elif stream.first_bare is None:
            stream.first_bare = self.segment.number

    def _data_fin(self, stream: Stream, dsn: int) -> None:
        if stream.data_fin is None:
            stream.data_fin, stream.data_fin_packet = dsn, self.segment.number
        elif stream.data_fin != dsn:
            self.find("data-fin-moved", f"DATA_FIN at {dsn}, before at {stream.data_fin}")

    def _map(self, stream: Stream, start: int, end: int, dsn: int, octets: int) -> None:
        """Note that subflow octets [start, end) carry data from `dsn` on, a number of so many octets."""
        half, segment = self.half, self.segment
        delta = dsn - start
        for each in half.ranges:
            if each.start < end and start < each.end and each.delta != delta:
                detail = (
                    f"subflow {self.subflow.id}: octets {max(start, each.start)} on: DSN {dsn}, but packet"
                )
                self.find("mapping-conflict", f"{detail} {each.packet} maps them {each.delta - delta:+d}")
                break
        if half.unmapped:
            half.unmapped = [part for old in half.unmapped for part in _without(old, start, end)]
        # What is left out is a mapping sent again, or repeated by segmentation; a hole may be filled late.
        fresh = half.mapped.missing(start, end)
        half.mapped.add(start, end)
        for first, past in fresh:
            last = half.ranges[-1] if half.ranges else None
            if last is not None and last.end == first and last.delta == delta:
                last.end = past
            else:
                half.ranges.append(MappedRange(first, past, delta, segment.number))
                if len(half.ranges) > _MOST_UNACKED:
                    half.ranges.popleft()
            self._new_octets(stream, first + delta, past + delta, octets)

    def _new_octets(self, stream: Stream, start: int, end: int, octets: int) -> None:
        """DSNs [start, end) in a place of the subflow where nothing was: new data or reinjected."""
        segment, subflow, connection = self.segment, self.subflow, self.connection
        known = stream.mapped.add(start, end)
        if known:
            stream.reinjected += known
            known_at = [each for each in stream.unacked if each.start < end and start < each.end]
            elsewhere = [each for each in known_at if each.subflow != subflow.id]
            before = next(iter(elsewhere or known_at), None)
            connection.reinjections.add(
                Reinjection(
                    segment.number,
                    segment.time_ns,
                    self.side,
                    subflow.id,
                    start,
                    known,
                    before.packet if before else None,
                    before.subflow if before else None,
                )
            )
        self.half.new_data += end - start - known
        stream.unacked.append(Sent(start, end, subflow.id, segment.number, octets))
        if len(stream.unacked) > _MOST_UNACKED:
            stream.unacked.popleft()
        if known < end - start:
            if not stream.scale_unknown and connection.state is not State.PARTIAL:
                self._compare_edge(stream, end)
            if self.other.backup and (regular := self._regular()) is not None:
                detail = f"new data on backup subflow {subflow.id}, subflow {regular.id} works"
                self.find("backup-used", detail)

    def _compare_edge(self, stream: Stream, end: int) -> None:
        """Note new data that ends beyond what the receiver's windows allow."""
        if stream.edge is None or stream.reach is None or end <= stream.edge:
            return
        kind = "window" if end > stream.reach else "window-kept"
        self.find(kind, f"data up to {end}, the window ends at {stream.edge}")

    def _regular(self) -> Subflow | None:
        """Another subflow that this side could send on, not asked to be backup."""
        for each in self.connection.subflows:
            if each is self.subflow or each.established_packet is None:
                continue
            mine, theirs = each.half(self.side), each.half(self.side.peer)
            ended = mine.fin_packet or mine.rst_packet or theirs.fin_packet or theirs.rst_packet
            if not ended and not theirs.backup and not mine.resending:
                return each
        return None

    def _payload(self, has_options: bool) -> None:
        """Every octet needs a mapping, unless the connection is TCP."""
        segment, half, connection = self.segment, self.half, self.connection
        connection.first_data.setdefault(self.side, segment)
        end = self.ssn + segment.payload_length
        silent = not has_options and self.side not in connection.first_dss
        if connection.state is State.MPTCP and silent and not half.mapped.covers(self.ssn, end):
            self._fall_back("first data without DSS")
        if connection.state is State.FALLBACK:
            if not has_options and half.plain_end is None:
                half.plain_end = end
            return
        if connection.state is not State.TCP and half.synced and len(half.unmapped) < _MOST_UNACKED:
            parts = [(max(self.ssn, half.acked), end, segment.number)]
            for each in half.ranges:
                parts = [part for old in parts for part in _without(old, each.start, each.end)]
            half.unmapped.extend(part for part in parts if part[0] < part[1])


def _without(part: tuple[int, int, int], start: int, end: int) -> list[tuple[int, int, int]]:
    """What is left of (start, end, packet) outside [start, end)."""
    first, last, packet = part
    if end <= first or last <= start:
        return [part]
    return [each for each in ((first, start, packet), (end, last, packet)) if each[0] < each[1]]


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
