"""The plain router of the lab."""

from __future__ import annotations

import pytest

from mptcp_lab.machines.session import Machine, Session
from mptcp_lab.suite.requirements import find_other_router, find_router


@pytest.fixture
def router(machines: Session) -> Machine:
    """The plain router between A's paths and B."""
    return machines.of(find_router(machines.lab))


@pytest.fixture
def other_router(machines: Session) -> Machine:
    """Another machine that forwards packets."""
    return machines.of(find_other_router(machines.lab))
