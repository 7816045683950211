"""Provide the host that attacks."""

from __future__ import annotations

import pytest

from mptcp_lab.machines.session import Machine, Session
from mptcp_lab.suite.requirements import find_attacker


@pytest.fixture(scope="session")
def attacker(machines: Session) -> Machine:
    """Return the attacker, which has an IPv4 address on the client's first two paths."""
    return machines.machine_of(find_attacker(machines.lab))
