"""Replaced addresses: consistent, networks stay networks, special ones stay; texts and their punctuation."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from mptcp_lab.doctor.bundle.addresses import AddressMap


def common(one: str, other: str) -> int:
    """Return how many leading bits two addresses have in common."""
    a, b = ip_address(one), ip_address(other)
    return a.max_prefixlen - (int(a) ^ int(b)).bit_length()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("203.0.113.10", "203.0.113.77"),
        ("192.168.7.10", "192.168.8.10"),
        ("10.0.0.1", "10.200.0.1"),
        ("2001:db8:1::10", "2001:db8:1::77"),
        ("2001:db8:1::10", "2001:db8:2::10"),
        ("fd00::1", "fd00:0:0:1::1"),
    ],
)
def test_two_addresses_share_as_many_bits_as_before(one: str, other: str) -> None:
    replaced = AddressMap()
    a, b = (str(replaced.address(ip_address(each))) for each in (one, other))
    assert {a, b}.isdisjoint({one, other})
    assert common(a, b) == common(one, other)


@pytest.mark.parametrize(
    "address", ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "::", "::1", "ff02::1"]
)
def test_addresses_with_a_meaning_stay(address: str) -> None:
    assert AddressMap().text(address) == address


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.1.2.3", "10.0.0.0/8"),
        ("172.20.1.1", "172.16.0.0/12"),
        ("198.18.1.10", "198.18.0.0/15"),
        ("100.64.1.1", "100.64.0.0/10"),
        ("8.8.8.8", "240.0.0.0/4"),
        ("2001:4860::8888", "3fff::/20"),
        ("fe80::5054:ff:feab:cd01", "fe80::/64"),
    ],
)
def test_the_kind_of_an_address_can_still_be_seen(address: str, network: str) -> None:
    assert ip_address(AddressMap().text(address)) in ip_network(network)


@pytest.mark.parametrize(
    "text",
    [
        "ESTAB 203.0.113.10:443 [2001:db8:1::10]:443 [::ffff:203.0.113.10]:80",
        "from 2001:db8:1::10: dropped, SRC=203.0.113.10 DST=203.0.113.10.",
        "203.0.113.0/24 dev eth1, 2001:db8:1::/64 dev eth1",
        "src=2001:0db8:0001:0000:0000:0000:0000:0010 sport=1",
        '{"address": "203.0.113.10", "other": "2001:db8:1::10"}',
        "2001:db8:1::10%eth0 203.0.113.10%eth0 <203.0.113.10>",
        "link/ether 52:54:00:ab:cd:01 brd ff:ff:ff:ff:ff:ff",
    ],
)
def test_addresses_in_texts_are_replaced_and_nothing_else(text: str) -> None:
    replaced = AddressMap().text(text)
    for planted in ("203.0.113", "2001:db8", "2001:0db8", "52:54:00"):
        assert planted not in replaced
    skeleton = [part for part in text.split() if not any(each.isdigit() for each in part)]
    assert [part for part in replaced.split() if part in skeleton] == skeleton


@pytest.mark.parametrize(
    "text", ["6.18.44 at 12:34:56", "1.2.3 eth0:1 a:b [10:20] 0000:00:1f.2", "::", "x.1.2.3.4"]
)
def test_what_is_no_address_stays(text: str) -> None:
    assert AddressMap().text(text) == text


def test_a_network_stays_a_network() -> None:
    replaced = AddressMap()
    network = ip_network(replaced.text("203.0.113.0/24"))
    assert ip_address(replaced.text("203.0.113.10")) in network
    assert ip_address(replaced.text("203.0.114.10")) not in network


def test_names_are_replaced_as_words() -> None:
    replaced = AddressMap({"alpha": "client", "alpha.example.org": "client", "b": "server"})
    assert replaced.text("Alpha alpha.example.org alphabet b") == "client client alphabet b"
