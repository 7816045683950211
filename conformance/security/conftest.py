"""Provide the host that attacks, and the listeners that it attacks."""

from __future__ import annotations

import pytest

from mptcp_lab.machines.session import Machine, Session
from mptcp_lab.suite.expectations import direct_target
from mptcp_lab.suite.find.hosts import find_attacker, find_server
from mptcp_lab.suite.proxy.targets import PROXY_TARGETS, proxy_target
from mptcp_lab.suite.traffic import Target


@pytest.fixture(scope="session")
def attacker(machines: Session) -> Machine:
    """Return the attacker, which has an IPv4 address on the client's first two paths."""
    return machines.machine_of(find_attacker(machines.lab))


@pytest.fixture(params=("direct", *PROXY_TARGETS))
def target(request: pytest.FixtureRequest, machines: Session) -> Target:
    """Return the server's own origin, or a proxy's listener of this engine and method."""
    if request.param == "direct":
        return direct_target(machines.machine_of(find_server(machines.lab)))
    return proxy_target(machines, request.param)
