"""The fronts that speak MPTCP with A: B itself, and every proxy's listener."""

from __future__ import annotations

import pytest

from mptcp_lab.machines.session import Machine, Session
from mptcp_lab.suite.expectations import origin_of
from mptcp_lab.suite.proxy.fronts import PROXY_FRONTS, proxy_front
from mptcp_lab.suite.rfc8684.ordinary import Traffic, ordinary_traffic
from mptcp_lab.suite.traffic import Front

FRONTS = ("direct", *PROXY_FRONTS)


@pytest.fixture(scope="module", params=FRONTS)
def front(request: pytest.FixtureRequest, machines: Session, b: Machine) -> Front:
    """B's own listener, or a proxy's."""
    if request.param == "direct":
        return Front(b, origin_of(b), b, origin_of(b))
    return proxy_front(machines, request.param)


@pytest.fixture(scope="module")
def ordinary(a: Machine, front: Front) -> Traffic:
    """One session of ordinary traffic with this front, as both ends captured it."""
    return ordinary_traffic(a, front)
