"""Wave 2: a user-space server against A's kernel, whose joins it answers right and wrong."""

from secrets import randbits, token_bytes

import pytest

from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.packets import joins, shown
from mptcp_lab.suite.peer import Peer, Subflow, Wire, lives, option_of, peer, served
from mptcp_lab.suite.session import Machine
from mptcp_lab.wire import MpJoinAck, MpJoinSyn, MpJoinSynAck, MptcpOption, Segment
from mptcp_lab.wire.packet import ACK, RST, SYN

#: More than the first subflow's window takes, so that A has data for the second one.
MUCH_DATA = 1_000_000


def asked_to_join(server: Peer, wire: Wire) -> tuple[Subflow, MpJoinSyn]:
    """Wait for a join of the client; return our side of the subflow, and the MP_JOIN."""
    further, syn = server.answers(wire, lambda segment: joins([segment]))
    return further, option_of(syn, MpJoinSyn)


WRONG_ANSWERS: dict[str, tuple[MptcpOption, ...]] = {
    "R21": (MpJoinSynAck(0, token_bytes(8), randbits(32)),),
    "R23": (),
}


@pytest.mark.parametrize(
    "answer",
    [pytest.param(answer, marks=claim(row, case="answer"), id=row) for row, answer in WRONG_ANSWERS.items()],
)
def test_wrong_answer_to_join(
    a: Machine, b: Machine, evidence: EvidenceBox, answer: tuple[MptcpOption, ...]
) -> None:
    """A join answered with a wrong HMAC, or without MP_JOIN, is reset; the connection lives on."""
    with peer(b, evidence) as server, served(a, server) as (wire, first, _):
        further, _ = asked_to_join(server, wire)
        further.says(SYN | ACK, *answer)
        further.hears(RST, what="RST of the join")
        lives(first)


def proves(segment: Segment) -> bool:
    """Whether a segment is the third packet of a join."""
    return any(isinstance(option, MpJoinAck) for option in segment.options)


@claim("R22")
def test_fourth_packet_lost(a: Machine, b: Machine, evidence: EvidenceBox) -> None:
    """The third packet is sent again until the fourth has come, and data only after that."""
    with peer(b, evidence) as server, served(a, server) as (wire, _, stream):
        further, asked = asked_to_join(server, wire)
        further.says(SYN | ACK, server.endpoint.join_answer(asked, 0, randbits(32)))
        stream.send(MUCH_DATA)
        further.hears(ACK, proves, "the third packet of the join")
        further.hears(ACK, proves, "the third packet once more")
        early = [s for s in wire.log if further.leg.is_from_peer(s) and s.payload_length]
        further.says(ACK, server.endpoint.acknowledging())
        further.hears(ACK, lambda segment: segment.payload_length, "data on the new subflow")
    assert not early, f"data before the fourth packet: {shown(early)}"
