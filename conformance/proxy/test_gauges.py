"""PROXY-14: the gauge of MPTCP counts connections while they are open, also one that fell back to TCP."""

import pytest

from mptcp_lab.inventory.engines import PROXIES
from mptcp_lab.machines.session import Machine, Session
from mptcp_lab.plugin import claim
from mptcp_lab.suite.expectations import direct_target
from mptcp_lab.suite.proxy.open_gauges import OPEN, check_counted
from mptcp_lab.suite.proxy.targets import proxy_target
from mptcp_lab.suite.requirements import ORIGIN, TCP_LISTENER


@claim("PROXY-14", case="gauges", requires=ORIGIN)
def test_gauges(client: Machine, server: Machine) -> None:
    """A and B count each of several open connections once, whatever the number of its subflows."""
    check_counted((client, server), direct_target(server), client, OPEN)


@claim("PROXY-14", case="gauges-after-fallback", requires=TCP_LISTENER)
@pytest.mark.parametrize("engine", [*PROXIES][:1])
def test_gauges_after_fallback(client: Machine, machines: Session, engine: str) -> None:
    """A counts a connection that fell back to TCP while it is open, and no longer when it has ended."""
    check_counted((client,), proxy_target(machines, f"{engine}-off"), client, 1)
