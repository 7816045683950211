"""The plain router of the lab."""

from __future__ import annotations

import pytest

from mptcp_lab.machines.session import Machine, Session


@pytest.fixture
def router(machines: Session) -> Machine:
    """The plain router between A's paths and B."""
    return machines.first("gateways")


@pytest.fixture
def other_router(machines: Session) -> Machine:
    """Another machine that forwards packets."""
    return machines.first(
        "proxies",
        lambda machine: any(s.engine == "forwarder" for s in machine.host.services),
        " that forward",
    )
