"""Recognise packets that a capture contains twice.

A capture with `-i any` has a packet once per interface, and NAT may change its addresses in between. A copy
has the sequence numbers, flags, length, window and options of a recent packet. Two different packets do not
agree by chance in MPTCP's token, nonce and keys and in the random initial sequence numbers. Only the MSS of
a SYN may differ, because routers clamp it.
"""

from __future__ import annotations

from mptcp_lab.wire.codec import MSS, Option, TcpOption
from mptcp_lab.wire.packet import SYN, IpAddress, Segment

#: A copy is at most this many packets later than its original; up to twice as many are kept.
KEPT_PACKETS = 1024

#: A copy with translated addresses is at most this much later than its original.
TRANSLATED_WITHIN_NS = 2_000_000_000
#: A copy with the same addresses and the same IPv4 identification is less than this much later. A
#: retransmission has another identification.
REPEATED_WITHIN_NS = 100_000_000
#: The limit for packets without an identification, such as all of IPv6. SYNs without one are never copies:
#: Linux sends SYN/ACKs with 0, and its timer and a repeated SYN may cause two of them at once.
UNNUMBERED_WITHIN_NS = 1_000_000

_SAME_NUMBERS = 16

FlowKey = tuple[IpAddress, int, IpAddress, int]
_Numbers = tuple[int, int, int, int]
_Seen = tuple[int, tuple[Option, ...], int, int, FlowKey]


class RecentPackets:
    """The most recent packets, indexed by the header fields that an address translator does not change."""

    __slots__ = ("_new", "_old")

    def __init__(self) -> None:
        self._new: dict[_Numbers, list[_Seen]] = {}
        self._old: dict[_Numbers, list[_Seen]] = {}

    def find(self, segment: Segment, flow: FlowKey) -> FlowKey | None:
        """Return the flow of the packet that `segment` copies; store an original and return None."""
        numbers = (segment.seq, segment.ack, segment.payload_length, segment.flags)
        seen = self._new.get(numbers)
        if seen is None:
            seen = self._old.get(numbers)
            if len(self._new) >= KEPT_PACKETS:
                self._new, self._old = {}, self._new
            self._new[numbers] = seen = seen or []
        for window, options, ip_id, time_ns, other in seen:
            if window != segment.window or not _are_same(options, segment):
                continue
            age = segment.time_ns - time_ns
            if flow != other and age <= TRANSLATED_WITHIN_NS:
                return other
            within = REPEATED_WITHIN_NS if ip_id else 0 if segment.flags & SYN else UNNUMBERED_WITHIN_NS
            if flow == other and age < within and ip_id == segment.ip_id:
                return other
        seen.append((segment.window, segment.options, segment.ip_id, segment.time_ns, flow))
        if len(seen) > _SAME_NUMBERS:
            del seen[0]
        return None


def _are_same(options: tuple[Option, ...], segment: Segment) -> bool:
    if options == segment.options:
        return True
    if not segment.flags & SYN or len(options) != len(segment.options):
        return False
    return all(
        one == other
        or (isinstance(one, TcpOption) and isinstance(other, TcpOption) and one.kind == other.kind == MSS)
        for one, other in zip(options, segment.options, strict=True)
    )
