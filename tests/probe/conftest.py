"""Fixtures of the probe's tests: two hosts for the whole session, with a probe on each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from mptcp_lab.machines.lease import Lease
from mptcp_lab.probe import Probe
from tests.probe.hosts import Keys, Pair, make_pair


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with ExitStack() as stack:
        yield make_pair(Keys.make(tmp_path_factory.mktemp("hosts")), stack)


@pytest.fixture(scope="session")
def client(pair: Pair) -> Iterator[Probe]:
    with Probe.open(pair.client.target()) as probe:
        yield probe


@pytest.fixture(scope="session")
def server(pair: Pair) -> Iterator[Probe]:
    with Probe.open(pair.server.target()) as probe:
        yield probe


@pytest.fixture
def leased(client: Probe, server: Probe) -> Iterator[None]:
    """Hold the lease on both hosts: a host refuses faults of a run without its lease."""
    with Lease.take({"client": client, "server": server}, "tests", "tests"):
        yield
