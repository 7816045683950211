"""The user-space peer's packets are right: analyser and rows agree, and two peers understand each other."""

from __future__ import annotations

from ipaddress import IPv4Address

from mptcp_lab.wire import MpCapable, MpJoinSynAck, Segment, analyse
from mptcp_lab.wire.endpoint import Endpoint, Leg
from mptcp_lab.wire.packet import ACK, PSH, SYN
from mptcp_lab.wire.rows import ROWS, Outcome

ONE, OTHER, SERVER = (IPv4Address(f"198.18.{n}.1") for n in (1, 2, 3))
DATA = b"some data"


def conversation(flags: int = 0x01) -> list[Segment]:
    """Handshake, first data, a join and data on it, between two user-space peers."""
    client, server = Endpoint(flags=flags), Endpoint(flags=flags)
    said: list[Segment] = []

    def says(theirs: Leg, hearer: Endpoint, segment: Segment) -> Segment:
        said.append(segment)
        theirs.take(segment)
        hearer.learn(segment)
        return segment

    up = Leg(ONE, 1000, SERVER, 7000)
    said.append(up.segment(SYN, MpCapable(flags=flags)))
    down = Leg.from_syn(said[0])
    says(up, client, down.segment(SYN | ACK, MpCapable(server.key, flags=flags)))
    says(down, server, up.segment(ACK, client.capable()))
    says(down, server, up.segment(PSH | ACK, client.first_data(DATA), payload=DATA))
    says(up, client, down.segment(ACK, server.data_ack_option()))
    second = Leg(OTHER, 1001, SERVER, 7000)
    asked = client.join(1, 11)
    said.append(second.segment(SYN, asked))
    back = Leg.from_syn(said[-1])
    answer = server.join_answer(asked, 0, 22)
    assert isinstance(answer, MpJoinSynAck)
    says(second, client, back.segment(SYN | ACK, answer))
    says(back, server, second.segment(ACK, client.join_proof(11, answer)))
    says(second, client, back.segment(ACK, server.data_ack_option()))
    says(back, server, second.segment(PSH | ACK, client.data(second, DATA), payload=DATA))
    says(second, client, back.segment(ACK, server.data_ack_option()))
    assert server.data_ack == client.dsn
    return said


def test_no_row_is_breached_by_our_own_peers() -> None:
    for flags in (0x01, 0x81):
        (connection,) = analyse(conversation(flags)).connections
        seen = {row.alias: row.check(connection).outcome for row in ROWS}
        assert Outcome.BREACH not in seen.values(), seen
        shown = {alias for alias, outcome in seen.items() if outcome is Outcome.OK}
        assert {"R01", "R02", "R03", "R04", "R13", "R15", "R17", "R18", "R19", "R28", "R31"} <= shown
