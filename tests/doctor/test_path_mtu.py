"""Datagrams that show whether a path swallows large packets, over loopback and with given answers."""

from __future__ import annotations

import pytest

from mptcp_lab.agent.lab_agent.examine import path_mtu

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
    assert path_mtu.find_swallowed([LOOPBACK]) == [is_swallowed]
