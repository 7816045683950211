"""Process one segment's data signals: mappings, DATA_ACK, DATA_FIN and windows (RFC 8684, 3.3)."""

from __future__ import annotations

from mptcp_lab.wire.codec import WINDOW_SCALE, TcpOption
from mptcp_lab.wire.model import MappedRange, Reinjection, Sent, State, Stream, Subflow
from mptcp_lab.wire.options.data import Dss
from mptcp_lab.wire.step_tcp import TcpStep, unwrap

#: The most mappings per stream, and ranges per direction, that are kept where no acknowledgements remove
#: them.
MOST_UNACKED = 4096


class DataStep(TcpStep):
    """One segment's effect on the data streams of its connection."""

    __slots__ = ()

    def _first_windows(self) -> None:
        """Set both receive windows from the handshake: before any DATA_ACK they start at the initial DSNs."""
        syn_ack, connection = self.subflow.syn_ack, self.connection
        mine, theirs = connection.stream(self.side), connection.stream(self.side.peer)
        if mine.edge is None and mine.idsn is not None and syn_ack is not None:
            mine.edge = mine.reach = mine.idsn + 1 + syn_ack.window
        if theirs.edge is None and theirs.idsn is not None:
            theirs.edge = theirs.reach = theirs.idsn + 1 + self._scale_window(self.segment.window, theirs)

    def _scale_window(self, window: int, stream: Stream) -> int:
        """Return this side's `window` in octets, scaled if both SYNs offer it; 0 if one is not captured."""
        syn, syn_ack = self.subflow.syn, self.subflow.syn_ack
        if syn is None or syn_ack is None:
            stream.scale_unknown = True
            return 0
        both = all(
            any(isinstance(each, TcpOption) and each.kind == WINDOW_SCALE for each in segment.options)
            for segment in (syn, syn_ack)
        )
        return window << (self.half.window_scale if both else 0)

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
        acked = value if octets == 8 or reference is None else unwrap(value, 32, reference)
        stream.data_acks += 1
        stream.data_acks_short += octets == 4
        if in_order and self.half.data_ack is not None and acked < self.half.data_ack:
            self.find("data-ack-back", f"DATA_ACK {acked} after {self.half.data_ack} on this subflow")
        self.half.data_ack = max(acked, self.half.data_ack or acked)
        # Other subflows of a partial connection may be in the capture as separate connections.
        whole = connection.state is not State.PARTIAL and stream.first_dsn is not None
        if whole and stream.highest is not None and acked > stream.highest:
            is_past_end = stream.data_fin is not None and acked > stream.data_fin + 1
            kind = "data-ack-past-end" if is_past_end else "data-ack-ahead"
            self.find(kind, f"DATA_ACK {acked}, data ends at {stream.highest}")
        stream.edge = max(acked + self._scale_window(segment.window, stream), stream.edge or 0)
        stream.reach = max(
            acked + self._scale_window(self.half.window, stream), stream.edge, stream.reach or 0
        )
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
        """Note a DATA_ACK of 4 octets for data whose DSN had 8 octets (RFC 8684, 3.3.2)."""
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
            dsn = unwrap(dsn, 32, stream.highest)
        length = dss.data_length - dss.data_fin
        self._count_checksum(stream, dss)
        if stream.first_dsn is None:
            stream.first_dsn, stream.first_packet = dsn, segment.number
        if length:
            if half.first_mapping is None:
                half.first_mapping = dss.subflow_seq
            start = unwrap(dss.subflow_seq, 32, half.next_ssn - half.syn_data) + half.syn_data
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
        elif (stream.data_fin - dsn) % (1 << 32):  # a DSN of 4 octets may lack the upper half
            self.find("data-fin-moved", f"DATA_FIN at {dsn}, before at {stream.data_fin}")

    def _map(self, stream: Stream, start: int, end: int, dsn: int, octets: int) -> None:
        """Map subflow octets [start, end) to data from `dsn` on; the DSN has `octets` octets on the wire."""
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
            half.unmapped = [part for old in half.unmapped for part in _subtract(old, start, end)]
        # Skip octets that are mapped already: mappings are retransmitted, or repeated by segmentation.
        fresh = half.mapped.missing_parts(start, end)
        half.mapped.add(start, end)
        for first, past in fresh:
            last = half.ranges[-1] if half.ranges else None
            if last is not None and last.end == first and last.delta == delta:
                last.end = past
            else:
                half.ranges.append(MappedRange(first, past, delta, segment.number))
                if len(half.ranges) > MOST_UNACKED:
                    half.ranges.popleft()
            self._new_octets(stream, first + delta, past + delta, octets)

    def _new_octets(self, stream: Stream, start: int, end: int, octets: int) -> None:
        """Count DSNs [start, end), newly mapped on this subflow, as new data or as reinjected data."""
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
        if len(stream.unacked) > MOST_UNACKED:
            stream.unacked.popleft()
        if known < end - start:
            if not stream.scale_unknown and connection.state is not State.PARTIAL:
                self._compare_edge(stream, end)
            if self.other.backup and (regular := self._regular()) is not None:
                detail = f"new data on backup subflow {subflow.id}, subflow {regular.id} works"
                self.find("backup-used", detail)

    def _compare_edge(self, stream: Stream, end: int) -> None:
        """Note new data that ends beyond the receive window."""
        if stream.edge is None or stream.reach is None or end <= stream.edge:
            return
        kind = "window" if end > stream.reach else "window-kept"
        self.find(kind, f"data up to {end}, the window ends at {stream.edge}")

    def _regular(self) -> Subflow | None:
        """Return another working subflow that the peer has not asked to use as backup only, or None."""
        for each in self.connection.subflows:
            if each is self.subflow or each.established_packet is None:
                continue
            mine, theirs = each.half(self.side), each.half(self.side.peer)
            ended = mine.fin_packet or mine.rst_packet or theirs.fin_packet or theirs.rst_packet
            if not ended and not theirs.backup and not mine.resending:
                return each
        return None

    def _payload(self, has_options: bool) -> None:
        """Note payload octets without a mapping, and a fallback by first data without DSS."""
        segment, half, connection = self.segment, self.half, self.connection
        connection.first_data.setdefault(self.side, segment)
        end = self.ssn + segment.payload_length
        silent = not has_options and self.side not in connection.first_dss
        # An earlier packet that was not captured may have had the mapping.
        is_first = half.synced and half.seen.covers(1, end) and not self.subflow.cut_headers
        if connection.state is State.MPTCP and silent and is_first and not half.mapped.covers(self.ssn, end):
            self._fall_back("first data without DSS")
        if connection.state is State.FALLBACK:
            if not has_options and half.plain_end is None:
                half.plain_end = end
            return
        if connection.state is not State.TCP and half.synced and len(half.unmapped) < MOST_UNACKED:
            parts = [(max(self.ssn, half.acked), end, segment.number)]
            for each in half.ranges:
                parts = [part for old in parts for part in _subtract(old, each.start, each.end)]
            half.unmapped.extend(part for part in parts if part[0] < part[1])


def _subtract(part: tuple[int, int, int], start: int, end: int) -> list[tuple[int, int, int]]:
    """Return the parts of (start, end, packet) that are outside [start, end)."""
    first, last, packet = part
    if end <= first or last <= start:
        return [part]
    return [each for each in ((first, start, packet), (end, last, packet)) if each[0] < each[1]]
