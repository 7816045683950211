"""Which listeners the inventory asks for, and which of them are not there as asked."""

from dataclasses import replace

import pytest

from mptcp_lab.inventory import Host, Lab, load, resolve
from mptcp_lab.suite.state.units import listening_addresses, parse_listeners, wrong_listeners

#: What `ss -Hln -t` prints.
PRINTED = """\
LISTEN 0      511         198.18.2.22:7101      0.0.0.0:*
LISTEN 0      511  [2001:db8:1::22]:7101         [::]:*
LISTEN 0      128      127.0.0.53%lo:53       0.0.0.0:*
LISTEN 0      128               *:22               *:*
"""


@pytest.fixture(scope="module")
def lab() -> Lab:
    return load(resolve("embedded"))


@pytest.fixture(scope="module")
def proxy(lab: Lab) -> Host:
    return lab.hosts["proxy2"]


@pytest.fixture
def right(lab: Lab, proxy: Host) -> tuple[set[tuple[str, int]], set[tuple[str, int]]]:
    """The MPTCP listeners of a proxy that is as the inventory says, and all its TCP listeners."""
    every = {
        (address, service.port): service.mptcp
        for service in proxy.services
        for address in listening_addresses(lab, proxy, service)
    }
    return {each for each, mptcp in every.items() if mptcp != "off"}, set(every)


def test_addresses_lose_brackets_and_device() -> None:
    assert parse_listeners(PRINTED) == {
        ("198.18.2.22", 7101),
        ("2001:db8:1::22", 7101),
        ("127.0.0.53", 53),
        ("*", 22),
    }


def test_a_proxy_listens_on_its_paths_and_an_origin_on_the_core_too(lab: Lab, proxy: Host) -> None:
    paths = ["198.18.1.22", "2001:db8:1::22", "198.18.2.22", "2001:db8:2::22"]
    assert listening_addresses(lab, proxy, proxy.service("testtcp")) == paths
    server = lab.hosts["server1"]
    assert "198.18.10.31" in listening_addresses(lab, server, server.service("origin"))


@pytest.mark.parametrize(
    ("listen", "printed"),
    [
        ({"listen": "wildcard"}, ["0.0.0.0"]),
        ({"listen": "dual-stack"}, ["*"]),
        ({"listen": "ipv6-only"}, ["::"]),
        ({"listen_on": ("198.18.2.22",)}, ["198.18.2.22"]),
    ],
)
def test_a_listener_on_all_or_on_one_address(lab: Lab, proxy: Host, listen: dict, printed: list[str]) -> None:
    assert listening_addresses(lab, proxy, replace(proxy.service("testtcp"), **listen)) == printed


def test_nothing_is_wrong_with_what_is_asked_for(lab: Lab, proxy: Host, right) -> None:
    assert wrong_listeners(lab, proxy, *right) == []


@pytest.mark.parametrize("address", ["198.18.2.22", "2001:db8:2::22"])
def test_one_address_without_mptcp_is_wrong(lab: Lab, proxy: Host, right, address: str) -> None:
    mptcp, tcp = right
    assert wrong_listeners(lab, proxy, mptcp - {(address, 7100)}, tcp) == [
        f"proxy2: testtcp on {address} port 7100 is to be MPTCP (mptcp: native), TCP listens"
    ]


def test_one_address_where_nothing_listens_is_wrong(lab: Lab, proxy: Host, right) -> None:
    gone = {("198.18.1.22", 7100)}
    mptcp, tcp = right
    assert "nothing listens" in wrong_listeners(lab, proxy, mptcp - gone, tcp - gone)[0]


def test_mptcp_where_it_is_to_be_off_is_wrong(lab: Lab, proxy: Host, right) -> None:
    mptcp, tcp = right
    found = wrong_listeners(lab, proxy, mptcp | {("198.18.1.22", 7104)}, tcp)
    assert found == [
        "proxy2: testtcp-plain on 198.18.1.22 port 7104 is to be TCP (mptcp: off), MPTCP listens"
    ]
