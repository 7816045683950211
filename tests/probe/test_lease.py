"""Test the lease: one run holds it at a time, it expires if the holder dies, its loss stops the holder."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest

from mptcp_lab.machines.lease import Lease, LeaseBusy, LeaseLost
from mptcp_lab.probe import Probe, eventually


def test_a_second_run_is_told_who_and_until_when(client: Probe, server: Probe) -> None:
    probes = {"a": client, "b": server}
    with Lease.take(probes, "alice", "run-1", ttl=20):
        with pytest.raises(LeaseBusy, match="alice holds the lab until") as busy:
            Lease.take({"b": server}, "bob", "run-2")
        assert busy.value.owner == "alice"
        assert 0 < (busy.value.until - datetime.now(UTC)).total_seconds() <= 20
    Lease.take(probes, "bob", "run-2").release()


def test_all_hosts_or_none(client: Probe, server: Probe) -> None:
    with Lease.take({"b": server}, "alice", "run-1"):
        with pytest.raises(LeaseBusy):
            Lease.take({"a": client, "b": server}, "bob", "run-2")
        Lease.take({"a": client}, "carol", "run-3").release()


def test_a_dead_holders_lease_expires_and_is_taken_over(client: Probe) -> None:
    client.call("lease_take", owner="dead", run="run-0", ttl=0.3)
    with pytest.raises(LeaseBusy, match="dead"):
        Lease.take({"a": client}, "bob", "run-1")

    def taken() -> Lease | None:
        try:
            return Lease.take({"a": client}, "bob", "run-1")
        except LeaseBusy:
            return None

    lease = eventually(taken, lambda lease: lease is not None, within=3)
    assert lease is not None
    lease.release()


def test_it_is_prolonged_while_held(client: Probe) -> None:
    with Lease.take({"a": client}, "alice", "run-1", ttl=0.3) as lease:
        client.run(["sleep", "0.7"])  # longer than two terms of the lease
        with pytest.raises(LeaseBusy):
            Lease.take({"a": client}, "bob", "run-2")
        lease.check()


def test_losing_it_stops_the_holder(client: Probe) -> None:
    lost = threading.Event()
    with Lease.take({"a": client}, "alice", "run-1", ttl=0.6, on_lost=lost.set) as lease:
        client.call("lease_release", run="run-1")
        client.call("lease_take", owner="bob", run="run-2", ttl=5)
        assert lost.wait(3)
        with pytest.raises(LeaseLost, match="bob"):
            lease.check()
    assert client.call("lease_release", run="run-2") is True
