"""Read from captured packets what an attacker on a path learns from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mptcp_lab.errors import Inconclusive
from mptcp_lab.suite.packets import format_segments, joins
from mptcp_lab.wire import Dss, MpCapable, MpJoinAck, Segment
from mptcp_lab.wire.packet import SYN


@dataclass(frozen=True)
class Keys:
    """The keys of a connection, which its first handshake shows in clear, and the flags agreed there."""

    client: int
    server: int
    flags: int


def overheard_keys(found: Iterable[Segment]) -> Keys:
    """Return the keys of the first connection in a capture; `Inconclusive` without a third packet."""
    for segment in found:
        for option in segment.options:
            if isinstance(option, MpCapable) and option.sender_key is not None and option.receiver_key:
                return Keys(option.sender_key, option.receiver_key, option.flags)
    raise Inconclusive("capture", "no third packet with both keys was captured")


def overheard_join(found: list[Segment]) -> tuple[Segment, Segment]:
    """Return the SYN and the third packet of the first join in a capture; `Inconclusive` without them."""
    for syn in joins(found):
        for segment in found:
            same = (segment.src, segment.sport, segment.dport) == (syn.src, syn.sport, syn.dport)
            if same and any(isinstance(option, MpJoinAck) for option in segment.options):
                return syn, segment
    raise Inconclusive("capture", f"no join was captured, only {format_segments(found) or 'nothing'}")


def last_segments(found: Iterable[Segment], port: int) -> tuple[list[Segment], list[Segment]]:
    """Return the last segment of each subflow towards a server's port, and the last one from there."""
    last = {(s.src, s.sport, s.dst, s.dport): s for s in found if not s.flags & SYN}
    return [s for s in last.values() if s.dport == port], [s for s in last.values() if s.sport == port]


def last_mapping(found: Iterable[Segment], port: int) -> Dss:
    """Return the last mapping of data to a server's port; `Inconclusive` without one."""
    mappings = [
        option
        for segment in found
        if segment.dport == port
        for option in segment.options
        if isinstance(option, Dss) and option.dsn is not None
    ]
    if not mappings:
        raise Inconclusive("capture", f"no data to port {port} was captured")
    return mappings[-1]
