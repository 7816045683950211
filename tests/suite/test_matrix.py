"""The expected subflow matrix, from the embedded inventory."""

import dataclasses

import pytest

from mptcp_lab.inventory import Lab, load, resolve
from mptcp_lab.suite.matrix import expected


@pytest.fixture(scope="module")
def lab() -> Lab:
    return load(resolve("embedded"))


def addresses(pairs) -> set[tuple[str, str]]:
    return {(pair.device, str(pair.remote)) for pair in pairs}


def test_ipv4_reaches_every_address_of_the_server(lab: Lab) -> None:
    matrix = expected(lab, lab.hosts["client"], lab.hosts["server1"], 4, {}, {})
    remotes = ("198.18.1.31", "198.18.2.31", "198.18.3.31")
    assert addresses(matrix.present) == {(nic, remote) for nic in ("eth1", "eth2") for remote in remotes}
    assert not matrix.absent


def test_the_reason_tells_direct_routed_and_weak_host_apart(lab: Lab) -> None:
    matrix = expected(lab, lab.hosts["client"], lab.hosts["server1"], 4, {}, {})
    reasons = {str(pair.remote): how for pair, how in matrix.present.items() if pair.device == "eth1"}
    assert reasons == {
        "198.18.1.31": "both on path1",
        "198.18.2.31": "routed by gateway",
        "198.18.3.31": "server1 answers ARP for it on path1",
    }


def test_arp_ignore_takes_the_weak_host_pairs_away(lab: Lab) -> None:
    matrix = expected(lab, lab.hosts["client"], lab.hosts["server1"], 4, {"eth1": 1, "eth2": 1}, {})
    assert addresses(matrix.absent) == {("eth1", "198.18.3.31"), ("eth2", "198.18.3.31")}
    assert all("arp_ignore" in why for why in matrix.absent.values())


@pytest.mark.parametrize("strictness", [1, 2])
def test_rp_filter_drops_answers_from_where_the_client_has_no_route(lab: Lab, strictness: int) -> None:
    filters = {"eth1": strictness, "eth2": strictness}
    matrix = expected(lab, lab.hosts["client"], lab.hosts["server1"], 4, {}, filters)
    assert addresses(matrix.absent) == {("eth1", "198.18.3.31"), ("eth2", "198.18.3.31")}
    assert all("rp_filter" in why for why in matrix.absent.values())


def test_ipv6_has_no_weak_host(lab: Lab) -> None:
    matrix = expected(lab, lab.hosts["client"], lab.hosts["server1"], 6, {}, {})
    assert addresses(matrix.absent) == {("eth1", "2001:db8:3::31"), ("eth2", "2001:db8:3::31")}
    assert len(matrix.present) == 4


def test_a_nic_that_is_down_is_no_endpoint(lab: Lab) -> None:
    matrix = expected(lab, lab.hosts["client"], lab.hosts["proxy1"], 4, {}, {})
    assert {pair.device for pair in matrix.present} == {"eth1", "eth2"}


def test_without_a_gateway_ipv6_stays_on_its_segment(lab: Lab) -> None:
    hosts = {name: host for name, host in lab.hosts.items() if name != "gateway"}
    alone = dataclasses.replace(lab, hosts=hosts)
    matrix = expected(alone, lab.hosts["client"], lab.hosts["proxy1"], 6, {}, {})
    assert addresses(matrix.present) == {("eth1", "2001:db8:1::21"), ("eth2", "2001:db8:2::21")}
    assert len(matrix.rows()) == 4
