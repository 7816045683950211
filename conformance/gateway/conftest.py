"""Provide the lab's plain router, and another machine that forwards packets."""

from __future__ import annotations

import pytest

from mptcp_lab.machines.session import Machine, Session
from mptcp_lab.suite.find.hosts import find_other_router, find_router


@pytest.fixture
def router(machines: Session) -> Machine:
    """Return the plain router between A's paths and B."""
    return machines.machine_of(find_router(machines.lab))


@pytest.fixture
def other_router(machines: Session) -> Machine:
    """Return another machine that forwards packets."""
    return machines.machine_of(find_other_router(machines.lab))
