"""Test the picture of a failover, and what must have carried its stream."""

from ipaddress import IPv4Address, IPv4Interface, IPv6Interface

import pytest

from mptcp_lab.inventory.model import Nic
from mptcp_lab.suite.directions import DOWNLOAD, UPLOAD
from mptcp_lab.suite.failover.live_stream import Story, path_names
from mptcp_lab.wire.packet import ACK, Segment

A1, A2, B1, B2 = (f"198.18.{segment}.{host}" for host in (10, 31) for segment in (1, 2))


def nic(segment: str, device: str, last: int) -> Nic:
    return Nic(segment, device, IPv4Interface(f"198.18.1.{last}/24"), IPv6Interface(f"2001:db8::{last}/64"))


def test_a_path_has_its_segments_name() -> None:
    assert path_names([nic("path1", "eth1", 1), nic("path2", "eth2", 2)]) == {
        "198.18.1.1": "path1",
        "2001:db8::1": "path1",
        "198.18.1.2": "path2",
        "2001:db8::2": "path2",
    }


def test_two_nics_on_one_segment_are_told_apart() -> None:
    names = path_names([nic("lan", "eth1", 1), nic("lan", "eth2", 2)])
    assert {names["198.18.1.1"], names["198.18.1.2"]} == {"lan eth1", "lan eth2"}


def data(second: int, source: str, to: str, sport: int = 40000, dport: int = 7000) -> Segment:
    addresses = IPv4Address(source), IPv4Address(to)
    return Segment(
        addresses[0], sport, addresses[1], dport, 1, 0, ACK, 65535, payload_length=100, time_ns=second * 10**9
    )


def story(lost: str, *packets: Segment) -> Story:
    """Return a failover whose path is lost between second 10 and second 20."""
    return Story(list(packets), 7000, lost, 10.0, 20.0)


def test_another_address_of_the_end_that_lost_a_path_carries_the_stream() -> None:
    story(A1, data(1, A1, B1), data(11, A2, B1)).check_carriers(UPLOAD)
    with pytest.raises(AssertionError, match=f"upload: nothing but {A1} carried anything"):
        story(A1, data(1, A1, B1), data(11, A1, B2), data(21, A2, B1)).check_carriers(UPLOAD)
    with pytest.raises(AssertionError, match=f"upload: {A1} carried nothing before the loss"):
        story(A1, data(1, A2, B1), data(11, A2, B1)).check_carriers(UPLOAD)


def test_the_clients_first_address_may_carry_it_where_the_server_lost_its_own() -> None:
    story(B1, data(1, A1, B1), data(11, A1, B2)).check_carriers(UPLOAD)
    with pytest.raises(AssertionError, match=f"upload: nothing but {B1} carried anything"):
        story(B1, data(1, A1, B1), data(11, A2, B1)).check_carriers(UPLOAD)


def test_what_the_server_sends_is_judged_by_itself() -> None:
    upload = data(11, A2, B2)
    story(A1, data(1, B1, A1, 7000, 40000), upload, data(11, B1, A2, 7000, 40000)).check_carriers(DOWNLOAD)
    with pytest.raises(AssertionError, match=f"download: nothing but {A1} carried anything"):
        story(A1, data(1, B1, A1, 7000, 40000), upload).check_carriers(DOWNLOAD)
