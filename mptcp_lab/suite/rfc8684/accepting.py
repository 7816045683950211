"""Accept the subflows that a client's kernel opens to a user-space server."""

from __future__ import annotations

from secrets import randbits

from mptcp_lab.suite.packets import joins
from mptcp_lab.suite.rfc8684.peer import Peer
from mptcp_lab.suite.rfc8684.peer_subflow import Subflow, option_of
from mptcp_lab.suite.rfc8684.peer_wire import Wire
from mptcp_lab.wire import MpJoinAck, MpJoinSyn, Segment
from mptcp_lab.wire.packet import ACK, SYN


def wait_for_join(wire_server: Peer, wire: Wire) -> tuple[Subflow, MpJoinSyn]:
    """Wait for a join of the client; return the peer's side of the subflow, and the MP_JOIN."""
    further, syn = wire_server.answers(wire, lambda segment: joins([segment]))
    return further, option_of(syn, MpJoinSyn)


def is_proof(segment: Segment) -> bool:
    """Return whether a segment is the third packet of a join."""
    return any(isinstance(option, MpJoinAck) for option in segment.options)


def accept_join(wire_server: Peer, wire: Wire) -> Subflow:
    """Accept a join of the client, and return the established subflow."""
    further, asked = wait_for_join(wire_server, wire)
    further.says(SYN | ACK, wire_server.endpoint.join_answer(asked, 0, randbits(32)))
    further.hears(ACK, is_proof, "the third packet of the join")
    further.says(ACK, wire_server.endpoint.data_ack_option())
    return further
