"""Datagrams that show whether a path swallows large packets, over loopback and with given answers."""

from __future__ import annotations

import sys

import pytest

from mptcp_lab.agent.lab_agent.examine import path_mtu
from mptcp_lab.paths import ROOT
from tests.doctor.conftest import Site

LOOPBACK = ["127.0.0.1", "lo", "127.0.0.1", "1500"]


@pytest.mark.parametrize("path", [LOOPBACK, ["::1", "lo", "::1", "1500"]], ids=["IPv4", "IPv6"])
def test_a_path_that_takes_large_packets_swallows_none(path: list[str]) -> None:
    assert path_mtu.find_swallowed([path]) == [False]


def test_an_address_that_the_host_lacks_is_not_asked() -> None:
    assert path_mtu.find_swallowed([["192.0.2.1", "lo", "192.0.2.2", "1500"], LOOPBACK]) == [False, False]


@pytest.mark.parametrize(
    ("small", "large", "is_swallowed"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_only_a_path_that_answers_small_packets_can_swallow_large_ones(
    monkeypatch: pytest.MonkeyPatch, small: bool, large: bool, is_swallowed: bool
) -> None:
    def answer(paths: list[path_mtu.Path], sizes: list[int]) -> list[bool]:
        return [small if size == path_mtu.SMALL else large for size in sizes]

    monkeypatch.setattr(path_mtu, "await_answers", answer)
    monkeypatch.setattr(path_mtu, "swallows", lambda path: True)
    assert path_mtu.find_swallowed([LOOPBACK]) == [is_swallowed]


#: Asks over the first path, after so many small packets that were answered.
ASK = """
import sys
sys.path.insert(0, sys.argv[1])
from lab_agent.examine import path_mtu
path = [sys.argv[3], "eth1", "198.18.1.2", "1500"]
first = path_mtu.Path(*path[:3], 1500)
for _ in range(int(sys.argv[2])):
    assert path_mtu.await_answers([first], [path_mtu.SMALL]) == [True]
print(*path_mtu.find_swallowed([path]))
"""


def ask(site: Site, answered_before: int) -> str:
    """Ask from a new address: the server's limit counts what other tests made it answer to an old one."""
    address = f"198.18.1.{100 + answered_before}"
    site.pair.client.ip(f"address add {address}/24 dev eth1")
    argv = [sys.executable, "-c", ASK, str(ROOT / "mptcp_lab/agent"), str(answered_before), address]
    try:
        return site.pair.client.run(*argv).strip()
    finally:
        site.pair.client.ip(f"address delete {address}/24 dev eth1")


def test_a_host_that_limits_its_answers_is_no_lossy_path(site: Site) -> None:
    """Linux answers six times in a row: five, the small packet, and not the large one."""
    assert ask(site, answered_before=5) == "False"


def test_a_link_with_a_smaller_mtu_is_found(site: Site) -> None:
    site.pair.server.ip("link set eth1 mtu 1280")
    try:
        assert ask(site, answered_before=0) == "True"
    finally:
        site.pair.server.ip("link set eth1 mtu 1500")
