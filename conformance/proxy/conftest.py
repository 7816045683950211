"""The proxies of the lab, one case per engine and way of enabling MPTCP."""

from __future__ import annotations

import pytest

from mptcp_lab.machines.session import Session
from mptcp_lab.suite.proxy.fronts import PROXY_FRONTS, proxy_front
from mptcp_lab.suite.traffic import Front


@pytest.fixture(params=PROXY_FRONTS)
def front(request: pytest.FixtureRequest, machines: Session) -> Front:
    """A listener of this engine, with MPTCP by this method, before one backend that speaks only TCP."""
    return proxy_front(machines, request.param)


@pytest.fixture(params=PROXY_FRONTS)
def hurried(request: pytest.FixtureRequest, machines: Session) -> Front:
    """The same with short timeouts."""
    wanted = "connect_timeout and idle_timeout of its own"
    return proxy_front(machines, request.param, lambda s: s.connect_timeout and s.idle_timeout, f", {wanted}")
