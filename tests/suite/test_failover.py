"""Test the picture of a failover."""

from ipaddress import IPv4Interface, IPv6Interface

from mptcp_lab.inventory.model import Nic
from mptcp_lab.suite.failover.live_stream import path_names


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
