"""The expected subflow matrix, from the embedded inventory."""

import dataclasses
from ipaddress import ip_interface

import pytest

from mptcp_lab.inventory import Lab, load, resolve
from mptcp_lab.inventory.model import Host, Nic, Segment
from mptcp_lab.suite.expectations import room_between
from mptcp_lab.suite.matrix import Room, expected_matrix, in_order


@pytest.fixture(scope="module")
def lab() -> Lab:
    return load(resolve("embedded"))


def addresses(pairs) -> set[tuple[str, str]]:
    return {(pair.device, str(pair.remote)) for pair in pairs}


def test_ipv4_reaches_every_address_of_the_server(lab: Lab) -> None:
    matrix = expected_matrix(lab, lab.hosts["client"], lab.hosts["server1"], 4, {}, {})
    remotes = ("198.18.1.31", "198.18.2.31", "198.18.3.31")
    assert addresses(matrix.present) == {(nic, remote) for nic in ("eth1", "eth2") for remote in remotes}
    assert not matrix.absent


def test_the_reason_tells_direct_routed_and_weak_host_apart(lab: Lab) -> None:
    matrix = expected_matrix(lab, lab.hosts["client"], lab.hosts["server1"], 4, {}, {})
    reasons = {str(pair.remote): how for pair, how in matrix.present.items() if pair.device == "eth1"}
    assert reasons == {
        "198.18.1.31": "both on path1",
        "198.18.2.31": "routed by gateway",
        "198.18.3.31": "server1 answers ARP for it on path1",
    }


def test_arp_ignore_takes_the_weak_host_pairs_away(lab: Lab) -> None:
    matrix = expected_matrix(lab, lab.hosts["client"], lab.hosts["server1"], 4, {"eth1": 1, "eth2": 1}, {})
    assert addresses(matrix.absent) == {("eth1", "198.18.3.31"), ("eth2", "198.18.3.31")}
    assert all("arp_ignore" in why for why in matrix.absent.values())


@pytest.mark.parametrize("strictness", [1, 2])
def test_rp_filter_drops_answers_from_where_the_client_has_no_route(lab: Lab, strictness: int) -> None:
    filters = {"eth1": strictness, "eth2": strictness}
    matrix = expected_matrix(lab, lab.hosts["client"], lab.hosts["server1"], 4, {}, filters)
    assert addresses(matrix.absent) == {("eth1", "198.18.3.31"), ("eth2", "198.18.3.31")}
    assert all("rp_filter" in why for why in matrix.absent.values())


def test_ipv6_has_no_weak_host(lab: Lab) -> None:
    matrix = expected_matrix(lab, lab.hosts["client"], lab.hosts["server1"], 6, {}, {})
    assert addresses(matrix.absent) == {("eth1", "2001:db8:3::31"), ("eth2", "2001:db8:3::31")}
    assert len(matrix.present) == 4


def test_a_nic_that_is_down_is_no_endpoint(lab: Lab) -> None:
    matrix = expected_matrix(lab, lab.hosts["client"], lab.hosts["proxy1"], 4, {}, {})
    assert {pair.device for pair in matrix.present} == {"eth1", "eth2"}


def test_without_a_gateway_ipv6_stays_on_its_segment(lab: Lab) -> None:
    hosts = {name: host for name, host in lab.hosts.items() if name != "gateway"}
    alone = dataclasses.replace(lab, hosts=hosts)
    matrix = expected_matrix(alone, lab.hosts["client"], lab.hosts["proxy1"], 6, {}, {})
    assert addresses(matrix.present) == {("eth1", "2001:db8:1::21"), ("eth2", "2001:db8:2::21")}
    assert len(matrix.rows()) == 4


def with_nics(lab: Lab, count: int) -> Lab:
    """Return the lab with so many dual-stack path NICs at the client and at server1."""
    hosts = dict(lab.hosts)
    for name, number in (("client", 10), ("server1", 31)):
        nics = [
            Nic(
                f"path{n}",
                f"eth{n}",
                ip_interface(f"198.18.{n}.{number}/24"),
                ip_interface(f"2001:db8:{n}::{number}/64"),
            )
            for n in range(1, count + 1)
        ]
        hosts[name] = dataclasses.replace(hosts[name], nics=tuple(nics))
    segments = {f"path{n}": Segment(f"path{n}", "path", None, None) for n in range(1, count + 1)}
    return dataclasses.replace(lab, hosts=hosts, segments={**lab.segments, **segments})


def mesh(lab: Lab, family: int, room: Room | None = None):
    return expected_matrix(lab, lab.hosts["client"], lab.hosts["server1"], family, {}, {}, room)


def test_three_nics_over_ipv4_just_fit(lab: Lab) -> None:
    matrix = mesh(with_nics(lab, 3), 4)
    assert (len(matrix.present), len(matrix.left_out)) == (9, 0)


def test_three_nics_over_ipv6_do_not_fit_beside_ipv4(lab: Lab) -> None:
    """As Linux 6.18 does it: IPv4's six joins, and two over IPv6, one of which cannot be reached."""
    matrix = mesh(with_nics(lab, 3), 6)
    assert addresses(matrix.present) == {("eth1", "2001:db8:1::31"), ("eth2", "2001:db8:1::31")}
    assert addresses(matrix.left_out) == {
        ("eth1", "2001:db8:2::31"),
        ("eth2", "2001:db8:2::31"),
        ("eth3", "2001:db8:3::31"),
    }
    assert all("8 more" in why for why in matrix.left_out.values())
    assert len(matrix.possible) == 5


def test_four_nics_over_ipv4_do_not_fit(lab: Lab) -> None:
    matrix = mesh(with_nics(lab, 4), 4)
    assert (len(matrix.present), len(matrix.left_out)) == (9, 7)
    assert {pair.device for pair in matrix.present} == {"eth1", "eth2", "eth3", "eth4"}


def test_the_limits_of_both_ends_count(lab: Lab) -> None:
    def host(**variables: int) -> Host:
        return dataclasses.replace(lab.hosts["client"], variables=variables)

    assert room_between(host(), host()) == Room(8, 8)
    assert room_between(host(mptcp_limit_subflows=3), host(mptcp_limit_subflows=2)).subflows == 2
    assert room_between(host(mptcp_limit_subflows=20), host()).subflows == 8
    announced = room_between(host(mptcp_limit_add_addr_accepted=1), host(mptcp_limit_add_addr_accepted=0))
    assert announced.announced == 1


def test_a_limit_of_the_inventory_leaves_out_what_comes_later(lab: Lab) -> None:
    matrix = mesh(lab, 4, Room(2, 8))
    assert addresses(matrix.present) == {
        ("eth1", "198.18.1.31"),
        ("eth1", "198.18.2.31"),
        ("eth2", "198.18.2.31"),
    }
    assert ("eth2", "198.18.1.31") in addresses(matrix.left_out)


def test_announcements_beyond_the_limit_are_not_joined(lab: Lab) -> None:
    matrix = mesh(lab, 4, Room(8, 1))
    assert {str(pair.remote) for pair in matrix.left_out} == {"198.18.3.31"}


def test_a_connection_over_ipv4_joins_over_ipv4_only(lab: Lab) -> None:
    hosts = lab.hosts["client"], lab.hosts["server1"]
    assert {pair.remote.version for pair in in_order(lab, *hosts, 4, Room())} == {4}
    assert {pair.remote.version for pair in in_order(lab, *hosts, 6, Room())} == {4, 6}
