"""Two ways from A to B, each through a packet-forwarding proxy."""

from __future__ import annotations

import pytest

from mptcp_lab.suite.session import Machine, Session
from mptcp_lab.suite.split import Split, split_of


@pytest.fixture
def split(machines: Session, a: Machine, b: Machine) -> Split:
    """A-1 to proxy 1 to B and A-2 to proxy 2 to B, the proxies with source NAT."""
    return split_of(machines, a, b)
