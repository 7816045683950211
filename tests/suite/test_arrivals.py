"""When data could be delivered in order, from packets made by hand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import ip_address

from mptcp_lab.suite.directions import DOWNLOAD
from mptcp_lab.suite.failover.arrivals import in_order
from mptcp_lab.wire import Segment
from mptcp_lab.wire.options.data import Dss
from mptcp_lab.wire.packet import ACK, SYN

B = ip_address("198.18.1.20")
PORT, FIRST_DSN = 7000, 0xFFFF_FF00


@dataclass
class Subflow:
    """A subflow of A, whose packets B's capture has; data starts at 1 of its own stream."""

    address: str
    isn: int
    sport: int = 40000

    def syn(self, ms: int) -> Segment:
        return self._from_a(ms, self.isn, SYN)

    def data(self, ms: int, ssn: int, dsn: int, length: int = 100) -> Segment:
        mapping = Dss(dsn=FIRST_DSN + dsn, subflow_seq=ssn, data_length=length)
        return self._from_a(ms, self.isn + ssn, ACK, (mapping,), length)

    def ack(self, ms: int, upto: int) -> Segment:
        number = (self.isn + upto) % (1 << 32)
        a = ip_address(self.address)
        return Segment(B, PORT, a, self.sport, 1, number, ACK, 1000, time_ns=ms * 10**6)

    def data_ack(self, ms: int, upto: int, dsn: int) -> Segment:
        return replace(self.ack(ms, upto), options=(Dss(data_ack=FIRST_DSN + dsn),))

    def _from_a(
        self, ms: int, seq: int, flags: int, options: tuple[Dss, ...] = (), length: int = 0
    ) -> Segment:
        a, number = ip_address(self.address), seq % (1 << 32)
        return Segment(
            a,
            self.sport,
            B,
            PORT,
            number,
            0,
            flags,
            1000,
            options=options,
            payload_length=length,
            time_ns=ms * 10**6,
        )


def milliseconds(packets: list[Segment]) -> list[int]:
    return [round(1000 * when) for when, _ in in_order(packets, PORT)]


def test_a_download_is_what_the_port_sends() -> None:
    one = Subflow("198.18.1.10", isn=5)
    upload = [one.syn(0), one.data(10, 1, 0), one.data(20, 101, 100), one.ack(31, 201)]
    assert in_order(upload, PORT, DOWNLOAD) == []
    download = [
        replace(each, src=each.dst, sport=each.dport, dst=each.src, dport=each.sport) for each in upload
    ]
    assert in_order(download, PORT, DOWNLOAD) == in_order(upload, PORT) != []


def test_every_acknowledged_packet_in_order_is_growth() -> None:
    one = Subflow("198.18.1.10", isn=0xFFFF_FFF0)  # wraps, as the data sequence numbers do
    packets = [
        one.syn(0),
        one.data(10, 1, 0),
        one.data(20, 101, 100),
        one.data(30, 201, 200),
        one.ack(31, 301),
    ]
    assert milliseconds(packets) == [10, 20, 30]


def test_what_is_never_acknowledged_never_arrived() -> None:
    one = Subflow("198.18.1.10", isn=5)
    packets = [one.syn(0), one.data(10, 1, 0), one.ack(11, 101), one.data(20, 101, 100), one.ack(21, 101)]
    assert milliseconds(packets) == [10]


def test_a_packet_that_was_dropped_counts_when_it_is_sent_again() -> None:
    one = Subflow("198.18.1.10", isn=5)
    packets = [one.syn(0), one.data(10, 1, 0), one.ack(11, 101)]
    packets += [one.data(20, 101, 100), one.data(220, 101, 100), one.ack(221, 201)]
    assert milliseconds(packets) == [10, 220]


def test_a_hole_is_filled_by_another_subflow() -> None:
    one, two = Subflow("198.18.1.10", isn=5), Subflow("198.18.2.10", isn=900, sport=40001)
    packets = [one.syn(0), two.syn(1), one.data(10, 1, 0), one.ack(11, 101)]
    packets += [one.data(20, 101, 100)]  # lost
    packets += [two.data(30, 1, 200), two.ack(31, 101)]  # behind the hole: nothing can be delivered
    packets += [two.data(240, 101, 100), two.ack(241, 201)]
    assert milliseconds(packets) == [10, 240]


def test_another_connection_is_left_out() -> None:
    one, stranger = Subflow("198.18.1.10", isn=5), Subflow("198.18.1.10", isn=77, sport=39999)
    packets = [
        stranger.data(1, 1, 5000),
        stranger.ack(2, 101),
        one.syn(3),
        one.data(10, 1, 0),
        one.ack(11, 101),
    ]
    assert milliseconds(packets) == [10]


def test_growth_says_how_far_the_data_goes() -> None:
    one = Subflow("198.18.1.10", isn=5)
    packets = [one.syn(0), one.data(10, 1, 0), one.ack(11, 101), one.data(20, 101, 100, 50), one.ack(21, 151)]
    assert [length for _, length in in_order(packets, PORT)] == [100, 150]


def test_what_came_before_the_way_back_was_lost_is_known_from_a_data_ack() -> None:
    """The first path's last packet arrived; its acknowledgement never left B, whose cable is out."""
    one, two = Subflow("198.18.1.10", isn=5), Subflow("198.18.2.10", isn=9)
    packets = [one.syn(0), two.syn(0), one.data(10, 1, 0), one.ack(11, 101), one.data(20, 101, 100)]
    packets += [two.data(30, 1, 200), two.data_ack(31, 101, 300)]
    assert milliseconds([*packets, one.data(90, 101, 100), one.ack(91, 201)]) == [10, 20, 30]


def test_a_data_ack_counts_no_packet_that_was_dropped_and_came_on_another_path() -> None:
    one, two = Subflow("198.18.1.10", isn=5), Subflow("198.18.2.10", isn=9)
    packets = [one.syn(0), two.syn(0), one.data(10, 1, 0), one.ack(11, 101), one.data(20, 101, 100)]
    packets += [two.data(50, 1, 100), two.data_ack(51, 101, 200)]
    assert milliseconds(packets) == [10, 50]
