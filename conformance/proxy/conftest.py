"""Provide the proxies of the lab, one case per engine and method of enabling MPTCP."""

from __future__ import annotations

import pytest

from mptcp_lab.machines.session import Machine, Session
from mptcp_lab.suite.find.hosts import find_proxy_host
from mptcp_lab.suite.find.proxies import SHORT_TIMEOUTS, has_short_timeouts
from mptcp_lab.suite.proxy.targets import PROXY_TARGETS, proxy_target
from mptcp_lab.suite.traffic import Target


@pytest.fixture(params=PROXY_TARGETS)
def target(request: pytest.FixtureRequest, machines: Session) -> Target:
    """Return a listener of this engine, with MPTCP by this method and one backend that speaks only TCP."""
    return proxy_target(machines, request.param)


@pytest.fixture(params=PROXY_TARGETS)
def impatient(request: pytest.FixtureRequest, machines: Session) -> Target:
    """Return such a listener with short timeouts."""
    return proxy_target(machines, request.param, has_short_timeouts, SHORT_TIMEOUTS)


@pytest.fixture
def proxy(machines: Session) -> Machine:
    """Return the first proxy that speaks MPTCP."""
    return machines.machine_of(find_proxy_host(machines.lab))
