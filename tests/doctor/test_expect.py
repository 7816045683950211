"""The subflows that two hosts should have, from their endpoints, limits and routes."""

from dataclasses import replace

from mptcp_lab.doctor.expect import (
    expected_pairs,
    is_proper,
    questions,
    settle,
    usable_addresses,
    why_unreachable,
)
from mptcp_lab.doctor.host_reading import HostReading
from mptcp_lab.doctor.network_reading import HostAddress, Link, Lookup
from mptcp_lab.probe.facts import Endpoint, Limits

LINKS = (Link("eth1"), Link("eth2"), Link("eth3", is_up=False))
CLIENT = HostReading(
    "a",
    links=LINKS,
    addresses=(HostAddress("eth1", "10.1.0.1", 24), HostAddress("eth2", "10.2.0.1", 24)),
    limits=Limits(8, 8),
    endpoints=(
        Endpoint(1, "10.1.0.1", 0, "eth1", frozenset({"subflow"})),
        Endpoint(2, "10.2.0.1", 0, "eth2", frozenset({"subflow"})),
    ),
    lookups=tuple(
        Lookup(f"10.{mine}.0.1", f"10.{theirs}.0.2", f"eth{mine}", f"eth{mine}", table="main")
        for mine in (1, 2)
        for theirs in (1, 2)
    ),
)
SERVER = HostReading(
    "b",
    links=LINKS,
    addresses=(HostAddress("eth1", "10.1.0.2", 24), HostAddress("eth2", "10.2.0.2", 24)),
    limits=Limits(8, 8),
    endpoints=(Endpoint(1, "10.2.0.2", 0, "eth2", frozenset({"signal"})),),
    lookups=tuple(
        Lookup(f"10.{mine}.0.2", f"10.{theirs}.0.1", "", f"eth{theirs}")
        for mine in (1, 2)
        for theirs in (1, 2)
    ),
)
FIRST = ("10.1.0.1", "10.1.0.2")
SECOND = ("10.2.0.1", "10.2.0.2")


def expected(client: HostReading, server: HostReading | None) -> set[tuple[str, str]]:
    return {(p.client, p.server) for p in expected_pairs(client, server, FIRST) if p.is_expected}


def fullmesh(host: HostReading) -> HostReading:
    assert isinstance(host.endpoints, tuple)
    both = frozenset({"subflow", "fullmesh"})
    return replace(host, endpoints=tuple(replace(each, flags=both) for each in host.endpoints))


def test_a_pair_on_one_network_is_expected_and_one_across_networks_is_not() -> None:
    client = replace(CLIENT, lookups=(*CLIENT.lookups, Lookup(*SECOND, "", "eth2")))  # type: ignore[misc]
    assert expected(client, SERVER) == {FIRST, SECOND}
    (crossed,) = (p for p in expected_pairs(client, SERVER, FIRST) if not p.is_expected)
    assert crossed.why == "no route from 10.2.0.1 to 10.1.0.2 on a"


def test_fullmesh_joins_each_address_that_is_announced() -> None:
    assert expected(fullmesh(CLIENT), SERVER) == {FIRST, SECOND}


def test_an_address_that_is_not_announced_is_not_joined() -> None:
    assert expected(fullmesh(CLIENT), replace(SERVER, endpoints=())) == {FIRST}
    assert expected(replace(fullmesh(CLIENT), limits=Limits(8, 0)), SERVER) == {FIRST}


def test_the_limits_of_both_ends_count() -> None:
    for client, server in (
        (replace(CLIENT, limits=Limits(0, 8)), SERVER),
        (CLIENT, replace(SERVER, limits=Limits(0, 8))),
    ):
        assert expected(fullmesh(client), server) == {FIRST}
    limited = expected_pairs(replace(fullmesh(CLIENT), limits=Limits(0, 8)), SERVER, FIRST)
    assert any("limit of 0" in pair.why for pair in limited)


def test_the_c_flag_forbids_joins_to_the_first_address() -> None:
    denying = replace(SERVER, sysctls={"net.mptcp.allow_join_initial_addr_port": "0"})
    tried = {(p.client, p.server) for p in expected_pairs(fullmesh(CLIENT), denying, FIRST)}
    assert ("10.2.0.1", "10.1.0.2") not in tried


def test_a_gateway_makes_a_way_proper_and_an_error_does_not() -> None:
    assert is_proper(CLIENT, Lookup("10.1.0.1", "203.0.113.9", "", "eth1", gateway="10.1.0.254"))
    assert not is_proper(CLIENT, Lookup("10.1.0.1", "203.0.113.9", "", "eth1"))
    assert not is_proper(CLIENT, Lookup("10.1.0.1", "203.0.113.9", "", error="ENETUNREACH: no"))
    assert not is_proper(CLIENT, None)


def test_a_server_without_a_way_back_is_named() -> None:
    blind = replace(SERVER, lookups=(Lookup("10.2.0.2", "10.2.0.1", "", error="ENETUNREACH: no"),))
    assert (
        why_unreachable(CLIENT, blind, *SECOND) == "no route from 10.2.0.2 to 10.2.0.1 on b: ENETUNREACH: no"
    )


def test_addresses_of_a_device_that_is_down_are_not_used() -> None:
    assert isinstance(CLIENT.addresses, tuple)
    more = (HostAddress("eth3", "10.3.0.1", 24), HostAddress("lo", "127.0.0.1", 8, "host"))
    host = replace(CLIENT, addresses=(*CLIENT.addresses, *more))
    assert usable_addresses(host) == ["10.1.0.1", "10.2.0.1"]
    assert len(questions(host, SERVER)) == 8


def test_a_full_connection_lacks_nothing() -> None:
    pairs = expected_pairs(fullmesh(CLIENT), SERVER, FIRST)
    states = {FIRST: "established", ("10.2.0.1", "10.1.0.2"): "established"}
    settled = settle(pairs, states, 1)
    assert not [pair for pair in settled if pair.is_expected and pair.state != "established"]
    assert [p.server for p in settle(pairs, states, 8) if p.is_expected and p.state == "missing"] == [
        "10.2.0.2"
    ]
