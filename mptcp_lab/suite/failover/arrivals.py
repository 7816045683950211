"""Find when a stream's data could be delivered in order, from a capture at the receiver. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from mptcp_lab.suite.directions import UPLOAD
from mptcp_lab.wire.options.data import Dss
from mptcp_lab.wire.packet import SYN, IpAddress, Segment
from mptcp_lab.wire.ranges import RangeSet

#: TCP sequence numbers count modulo 2^32; a number more than half of that ahead is behind.
WRAP, HALF = 1 << 32, 1 << 31


@dataclass
class _Subflow:
    """Data of one subflow that the receiver has not acknowledged, by its place in the subflow's stream.

    If data was sent repeatedly, only the last time is kept.
    """

    isn: int
    waiting: dict[int, tuple[int, int, int]] = field(default_factory=dict)  # time_ns, dsn, length

    def take_acked(self, ack: int) -> list[tuple[int, int, int]]:
        """Remove and return the data that an acknowledgement covers."""
        upto = (ack - self.isn) % WRAP
        ssns = [ssn for ssn, (_, _, length) in self.waiting.items() if ssn + length <= upto]
        return [self.waiting.pop(ssn) for ssn in ssns]

    def take_data_acked(self, upto: int, accepted: RangeSet) -> list[tuple[int, int, int]]:
        """Remove and return the data that a DATA_ACK covers but no subflow's acknowledgement did.

        The data is added to `accepted`.
        """
        found = []
        for ssn, (_, dsn, length) in list(self.waiting.items()):
            if dsn + length <= upto and not accepted.covers(dsn, dsn + length):
                accepted.add(dsn, dsn + length)
                found.append(self.waiting.pop(ssn))
        return found


#: Address and port of a subflow's sender, then of its receiver.
_Ends = tuple[IpAddress, int, IpAddress, int]


def in_order(packets: Iterable[Segment], port: int, direction: str = UPLOAD) -> list[tuple[float, int]]:
    """Return when a direction's data grew without a hole, as (seconds since the epoch, bytes by then).

    UPLOAD is the data that is sent to `port`, DOWNLOAD the data that is sent from it.

    `packets` hold one MPTCP connection from its first SYN on; subflows whose SYN is missing are ignored. A
    capture also has packets that the receiver's firewall drops. Therefore a packet counts only once the
    receiver has acknowledged it, at the time when it was last sent before that. The acknowledgement is that
    of its subflow, or a DATA_ACK where the subflow's acknowledgements are not sent any more (RFC 8684 section
    3.3.2).
    """
    subflows: dict[_Ends, _Subflow] = {}
    first: int | None = None
    arrived: list[tuple[int, int, int]] = []
    accepted = RangeSet()
    for segment in packets:
        if (segment.dport == port) != (direction == UPLOAD):
            sender = (segment.dst, segment.dport, segment.src, segment.sport)
            found = subflow.take_acked(segment.ack) if (subflow := subflows.get(sender)) else []
            for _, dsn, length in found:
                accepted.add(dsn, dsn + length)
            if first is not None and (upto := _data_ack(segment)) is not None:
                upto = (upto - first + HALF) % WRAP - HALF
                found += [
                    each for other in subflows.values() for each in other.take_data_acked(upto, accepted)
                ]
            arrived += found
            continue
        sender = (segment.src, segment.sport, segment.dst, segment.dport)
        if segment.flags & SYN:
            subflows.setdefault(sender, _Subflow(segment.seq))
        subflow, mapping = subflows.get(sender), _mapping(segment)
        if subflow is None or mapping is None or mapping.dsn is None or mapping.subflow_seq is None:
            continue
        ssn = (segment.seq - subflow.isn) % WRAP
        first = mapping.dsn if first is None else first
        dsn = (mapping.dsn + ssn - mapping.subflow_seq - first + HALF) % WRAP - HALF
        subflow.waiting[ssn] = (segment.time_ns, dsn, segment.payload_length)
    return _growth(arrived)


def _mapping(segment: Segment) -> Dss | None:
    """Return the mapping of a segment's payload, or None."""
    found = (o for o in segment.options if isinstance(o, Dss) and o.data_length)
    return next(found, None) if segment.payload_length else None


def _data_ack(segment: Segment) -> int | None:
    """Return a segment's DATA_ACK: the data sequence number before which the receiver has everything."""
    return next((o.data_ack for o in segment.options if isinstance(o, Dss)), None)


def _growth(arrived: list[tuple[int, int, int]]) -> list[tuple[float, int]]:
    """Return when the range that begins with the first data grew, and to what length."""
    have, edge, growth = RangeSet(), 0, list[tuple[float, int]]()
    for time_ns, dsn, length in sorted(arrived):
        have.add(max(dsn, 0), dsn + length)
        start, end = next(iter(have), (0, 0))
        if start == 0 and end > edge:
            edge = end
            growth.append((time_ns / 1e9, edge))
    return growth
