"""Traces and disturbances are found in one reading of the hosts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mptcp_lab.errors import Disturbed
from mptcp_lab.suite import traces

EMPTY: dict[str, list[Any]] = {"addresses": [], "rules4": [], "routes6": []}
BEFORE = {"client": EMPTY, "gateway": EMPTY}
RULE = {"client": {**EMPTY, "rules4": [{"priority": 5}]}}
ADVERTISED = {"client": {**EMPTY, "routes6": [{"dst": "default", "dev": "eth1", "protocol": "ra"}]}}


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Return a session whose hosts have the states in `readings`, one reading after the other."""
    machines = SimpleNamespace(machines={}, disturbances=set(), readings=[], count=0)

    def read(_: Any) -> dict[str, Any]:
        machines.count += 1
        return BEFORE | (machines.readings.pop(0) if machines.readings else {})

    monkeypatch.setattr(traces, "network_states", read)
    return machines


def test_hosts_that_did_not_change_are_read_once(session: SimpleNamespace) -> None:
    assert traces.compare(session, BEFORE, BEFORE) == []
    assert session.count == 1


def test_a_change_that_undoes_itself_is_no_trace(session: SimpleNamespace) -> None:
    session.readings = [RULE, RULE]
    assert traces.compare(session, BEFORE, BEFORE) == []
    assert session.count == 3


def test_a_change_that_stays_is_a_trace(session: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "SETTLE_WITHIN_SECONDS", 0.05)
    session.readings = [RULE] * 1000
    (found,) = traces.compare(session, BEFORE, BEFORE)
    assert found.startswith("client: rules4")


def test_a_host_that_is_not_sound_is_not_compared(session: SimpleNamespace) -> None:
    session.readings = [RULE]
    assert traces.compare(session, BEFORE, {"gateway"}) == []


def test_a_disturbance_is_raised_once_and_is_no_trace(session: SimpleNamespace) -> None:
    session.readings = [ADVERTISED, ADVERTISED]
    with pytest.raises(Disturbed, match="client: route default on eth1"):
        traces.compare(session, BEFORE, BEFORE)
    assert traces.compare(session, BEFORE, BEFORE) == []
    assert session.count == 2


def test_a_neighbour_that_did_not_answer_is_asked_once_by_the_right_address(session: SimpleNamespace) -> None:
    ran: list[list[str]] = []
    nic = SimpleNamespace(device="eth1", address=lambda family: {4: "198.18.1.10", 6: None}[family])
    session.machines["client"] = SimpleNamespace(
        name="client", host=SimpleNamespace(nics=[nic]), probe=SimpleNamespace(run=ran.append)
    )
    resolving = {"client": {**EMPTY, "resolving": ["198.18.1.31 on eth1", "198.18.9.9 on lo"]}}
    session.readings = [resolving, resolving]
    assert traces.compare(session, BEFORE, BEFORE) == []
    assert [argv[-2:] for argv in ran] == [["198.18.1.10", "198.18.1.31"]]
    assert session.count == 4  # twice while it resolves, once when it is asked, and once more
