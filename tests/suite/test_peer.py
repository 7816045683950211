"""A peer of our own on the wire, where acknowledgements do not come."""

from ipaddress import IPv4Address

from mptcp_lab.probe import NeverHappened
from mptcp_lab.suite.rfc8684.peer import Reassembly
from mptcp_lab.suite.rfc8684.peer_subflow import Subflow
from mptcp_lab.suite.rfc8684.peer_wire import Suits, unused_port
from mptcp_lab.wire import Dss, Segment
from mptcp_lab.wire.endpoint import Endpoint, Leg
from mptcp_lab.wire.packet import ACK

A, B = IPv4Address("198.18.1.10"), IPv4Address("198.18.1.31")


class Deaf:
    """A wire on which nothing comes until a segment was sent so often."""

    heard_within = 5.0

    def __init__(self, answer: Segment, after: int) -> None:
        self.answer, self.after = answer, after
        self.sent: list[Segment] = []

    def send(self, segment: Segment) -> None:
        self.sent.append(segment)

    def next(self, suits: Suits, what: str, within: float = 0.0) -> Segment:
        if len(self.sent) < self.after or not suits(self.answer):
            raise NeverHappened(what)
        return self.answer


def test_data_without_its_data_ack_is_sent_again() -> None:
    """The other end's one acknowledgement may have had no room for it, beside an ADD_ADDR."""
    ours, leg, payload = Endpoint(), Leg(A, 20000, B, 7000), b"some data"
    mapping = ours.data(leg, payload)
    answer = Leg(B, 7000, A, 20000).segment(ACK, Dss(ours.dsn))
    wire = Deaf(answer, after=3)
    subflow = Subflow(wire, leg, ours)
    subflow.says(ACK, mapping, payload=payload)
    assert subflow.hears_data_ack() == answer
    assert [segment.payload for segment in wire.sent] == [payload] * 3
    assert len({segment.seq for segment in wire.sent}) == 1


def test_pieces_that_overtake_and_overlap_become_one_stream() -> None:
    got = Reassembly()
    for offset, payload in ((3, b"def"), (0, b"ab"), (1, b"bcd"), (4, b"efgh"), (0, b"abc")):
        got.add(offset, payload)
    assert (bytes(got.stream), got.held) == (b"abcdefgh", {})


def test_peers_of_a_run_do_not_share_a_port() -> None:
    ports = [unused_port() for _ in range(2000)]
    assert len(set(ports)) == len(ports)
