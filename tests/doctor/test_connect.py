"""What the doctor waits for before it stops watching its connection."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from mptcp_lab.doctor import connect
from mptcp_lab.doctor.connect import THIRD_PACKETS
from mptcp_lab.probe.facts import Counters, Subflow


def counted(number: int | None) -> Counters:
    """Return counters with so many third packets of joins, or of a kernel that does not count them."""
    return Counters({"MPTcpExt": {} if number is None else {THIRD_PACKETS: number}})


class Server:
    """A server whose count is 10 before the connection and grows with each reading of it."""

    def __init__(self, *counts: int) -> None:
        self.counts: Iterator[int] = iter(counts)
        self.readings = 0
        self.probe = self

    def counters(self) -> Counters:
        self.readings += 1
        return counted(next(self.counts))


def facts(subflows: int) -> Any:
    """Return a connection with so many established subflows."""
    states = {"state": connect.STATE_ESTABLISHED}
    found = tuple(Subflow(f"192.0.2.{n}", 1, "192.0.2.99", 2, n, states) for n in range(1, subflows + 1))
    return SimpleNamespace(subflows=found)


def wait(server: Any, before: int | None, subflows: int) -> None:
    connect._await_third_packets(server, counted(before), facts(subflows) if subflows else None)


def test_the_watch_ends_no_sooner_than_the_last_third_packet_has_come() -> None:
    server = Server(10, 11, 13)
    wait(server, 10, 4)
    assert server.readings == 3


def test_a_third_packet_that_never_comes_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "THIRD_TIMEOUT_S", 0.0)
    server = Server(12)
    wait(server, 10, 4)
    assert server.readings == 1


@pytest.mark.parametrize(("before", "subflows"), [(10, 1), (10, 0), (None, 4)])
def test_nothing_is_waited_for_where_nothing_can_come(before: int | None, subflows: int) -> None:
    server = Server()
    wait(server, before, subflows)
    assert server.readings == 0
    wait(None, before, subflows)
