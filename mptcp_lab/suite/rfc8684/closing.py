"""End connections between a kernel and a user-space peer, with packets that are lost or early; read data."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace

from mptcp_lab.probe import Stream
from mptcp_lab.suite.rfc8684.peer import Peer
from mptcp_lab.suite.rfc8684.peer_subflow import Subflow, option_of
from mptcp_lab.wire import Dss, Segment
from mptcp_lab.wire.keys import idsn
from mptcp_lab.wire.packet import ACK, FIN

READ_TIMEOUT_S = 5.0


def has_data_fin(segment: Segment) -> bool:
    """Return whether a segment has a DATA_FIN."""
    return any(isinstance(option, Dss) and option.data_fin for option in segment.options)


def hear_data_fin(first: Subflow, what: str = "DATA_FIN") -> Dss:
    """Wait for a DATA_FIN of the other end, and return its DSS."""
    return option_of(first.hears(ACK, has_data_fin, what), Dss)


def lose_data_fin(first: Subflow) -> None:
    """Wait for a DATA_FIN of the other end twice, as if the first one was lost; check that it is the same."""
    lost, again = hear_data_fin(first), hear_data_fin(first, "DATA_FIN once more")
    octets = min(lost.dsn_octets, again.dsn_octets)
    assert lost.dsn is not None and again.dsn is not None, "a DATA_FIN has no DSN"
    assert (lost.dsn - again.dsn) % (1 << 8 * octets) == 0, f"DATA_FIN at {lost.dsn}, then at {again.dsn}"


def send_data_fin(first: Subflow) -> Dss:
    """Send a DATA_FIN and return its DSS."""
    option = first.endpoint.data(first.leg, b"", fin=True)
    first.says(ACK, option)
    return option


def acknowledges_all(end: Peer) -> Callable[[Segment], bool]:
    """Return a condition on segments: they acknowledge everything that the peer has sent, DATA_FIN too."""
    dsn = end.endpoint.dsn

    def is_met(segment: Segment) -> bool:
        found = (option for option in segment.options if isinstance(option, Dss))
        return any(o.data_ack is not None and o.data_ack == dsn % (1 << 8 * o.data_ack_octets) for o in found)

    return is_met


def end_subflow(first: Subflow) -> None:
    """Acknowledge the other end's DATA_FIN, and check that it ends the subflow with FIN; end it too."""
    first.says(ACK, first.endpoint.data_ack_option())
    first.hears(FIN | ACK, what="FIN of the subflow")
    first.says(FIN | ACK, first.endpoint.data_ack_option())


def say_ahead(first: Subflow) -> None:
    """Send an acknowledgement whose sequence number is one ahead, as one that overtakes a packet."""
    segment = first.leg.segment(ACK, first.endpoint.data_ack_option())
    first.wire.send(replace(segment, seq=(segment.seq + 1) % (1 << 32)))


def is_window_probe(first: Subflow, segment: Segment) -> bool:
    """Return whether a segment repeats data, or the last octet before what a closed window holds back."""
    earlier = [
        each
        for each in first.wire.log
        if first.leg.is_from_peer(each) and each.payload_length and each.number < segment.number
    ]
    ends = {(each.seq + each.payload_length) % (1 << 32) for each in earlier}
    repeats = segment.payload_length > 0 and segment.seq in {each.seq for each in earlier}
    return repeats or (segment.payload_length <= 1 and (segment.seq + 1) % (1 << 32) in ends)


def read_until(first: Subflow, nbytes: int) -> None:
    """Acknowledge data of the other end until so many octets have come in order since the beginning."""
    end = first.endpoint
    begin = (idsn(end.peer) + 1) % (1 << 64)
    while (end.data_ack - begin) % (1 << 64) < nbytes:
        first.says(ACK, end.data_ack_option())
        first.hears(ACK, lambda segment: segment.payload_length, "more data")


def check_aborted(stream: Stream) -> None:
    """Check that a program that reads a connection gets ECONNRESET."""
    result = stream.receive().wait(READ_TIMEOUT_S, check=False)
    assert result.errno == errno.ECONNRESET, f"reading ended with {result.end} {result.message}"
