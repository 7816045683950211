"""Process one segment as TCP does: sequence numbers, acknowledgements and windows."""

from __future__ import annotations

from mptcp_lab.wire.model import Connection, Fallback, Finding, Side, State, Subflow
from mptcp_lab.wire.options.base import MptcpOption
from mptcp_lab.wire.options.data import Dss
from mptcp_lab.wire.packet import ACK, FIN, RST, SYN, Segment


def unwrap(value: int, bits: int, reference: int) -> int:
    """Return the number closest to `reference` whose lowest `bits` bits are `value` (undo wrap-around)."""
    span = 1 << bits
    distance = (value - reference) % span
    return reference + (distance - span if distance >= span // 2 else distance)


class TcpStep:
    """One segment with its connection, subflow and direction."""

    __slots__ = ("connection", "half", "other", "segment", "side", "ssn", "subflow")

    def __init__(self, connection: Connection, subflow: Subflow, side: Side, segment: Segment) -> None:
        self.connection = connection
        self.subflow = subflow
        self.side = side
        self.segment = segment
        self.half = subflow.half(side)
        self.other = subflow.half(side.peer)
        self.ssn = 0

    def find(self, kind: str, detail: str) -> None:
        """Add a finding that this segment shows."""
        self.connection.findings.add(Finding(kind, self.segment.number, self.side, detail))

    def _fall_back(self, reason: str) -> None:
        connection, segment = self.connection, self.segment
        if connection.fallback is None:
            connection.fallback = Fallback(segment.number, segment.time_ns, reason)
            connection.state = State.FALLBACK

    def _sync(self, options: list[MptcpOption]) -> None:
        """Find the initial sequence numbers, from a SYN, an acknowledgement or a mapping."""
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
        """Count payload and acknowledgements; return whether this segment is as new as those before it."""
        segment, half, other = self.segment, self.half, self.other
        assert half.isn is not None
        self.ssn = unwrap((segment.seq - half.isn) % (1 << 32), 32, half.next_ssn)
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
            acked = unwrap((segment.ack - other.isn) % (1 << 32), 32, other.acked)
            newest = newest and acked >= other.acked
            self._take_window(acked > other.acked)
            if acked > other.acked:
                # Sequence number 0 is the SYN; the capture may start after it.
                if not other.seen.covers(max(1, other.acked), acked):
                    if other.missing_packet is None and other.synced:
                        other.missing_packet = segment.number
                    other.next_ssn = max(other.next_ssn, acked)
                other.acked = acked
                while other.ranges and other.ranges[0].end <= acked:
                    other.ranges.popleft()
        return newest

    def _take_window(self, acknowledges: bool) -> None:
        """Update the window under the conditions of Linux (net/ipv4/tcp_input.c, tcp_may_update_window).

        The segment acknowledges new data, is newer than the last update, or has a larger window.
        """
        segment, half = self.segment, self.half
        larger = self.ssn == half.window_seq and segment.window > half.window
        if acknowledges or self.ssn > half.window_seq or larger:
            half.window, half.window_seq = segment.window, self.ssn
