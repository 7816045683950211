"""Provide two ways from A to B, each through a proxy."""

from __future__ import annotations

import pytest

from mptcp_lab.inventory.engines import PROXIES
from mptcp_lab.machines.session import Machine, Session
from mptcp_lab.suite.proxy.targets import proxy_target
from mptcp_lab.suite.split.forwarders import Split, split_of
from mptcp_lab.suite.traffic import Target


@pytest.fixture
def split(machines: Session, client: Machine, server: Machine) -> Split:
    """Return A-1 to proxy 1 to B and A-2 to proxy 2 to B; the proxies forward packets, with source NAT."""
    return split_of(machines, client, server)


@pytest.fixture(params=PROXIES)
def targets(request: pytest.FixtureRequest, machines: Session) -> tuple[Target, Target]:
    """Return two terminating proxies of an engine, with MPTCP in front, before a B that speaks only TCP."""
    preload, native = (
        proxy_target(machines, f"{request.param}-{method}") for method in ("preload", "native")
    )
    return preload, native
