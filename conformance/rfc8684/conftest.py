"""Provide the targets that speak MPTCP with A: B itself, and every proxy's listener."""

from __future__ import annotations

import pytest

from mptcp_lab.machines.session import Machine, Session
from mptcp_lab.suite.expectations import direct_target
from mptcp_lab.suite.proxy.targets import PROXY_TARGETS, proxy_target
from mptcp_lab.suite.rfc8684.ordinary import Traffic, ordinary_traffic
from mptcp_lab.suite.traffic import Target

TARGETS = ("direct", *PROXY_TARGETS)


@pytest.fixture(scope="module", params=TARGETS)
def target(request: pytest.FixtureRequest, machines: Session, server: Machine) -> Target:
    """Return B's own listener, or a proxy's."""
    if request.param == "direct":
        return direct_target(server)
    return proxy_target(machines, request.param)


@pytest.fixture(scope="module")
def ordinary(client: Machine, target: Target) -> Traffic:
    """Return one session of ordinary traffic with this target, as both ends captured it."""
    return ordinary_traffic(client, target)
