"""DIRECT-24: paths are managed from user space, at the server or both ends, with and without a daemon."""

import pytest

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.direct import server_daemon
from mptcp_lab.suite.direct.no_daemon import without_daemon
from mptcp_lab.suite.direct.server_opens import check_opens, check_opens_to_announced_port
from mptcp_lab.suite.direct.two_daemons import check_orders_of_both, check_refused_subflow
from mptcp_lab.suite.requirements import FULL_MESH, IPV6, ORIGIN, SERVER_TWO_PATHS, TWO_PATHS


@claim("DIRECT-24", case="no-daemon", requires=(ORIGIN, TWO_PATHS, FULL_MESH))
def test_no_daemon(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """Without a daemon the server refuses joins and echoes no ADD_ADDR; the connection survives."""
    without_daemon(server, lambda: server_daemon.check_refuses(client, server, evidence))


@claim("DIRECT-24", case="orders", requires=(ORIGIN, TWO_PATHS, FULL_MESH))
def test_orders(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """The server announces, withdraws and closes what the daemon commands, id 0 too, and nothing else."""
    server_daemon.check_obeys(client, server, evidence)


@claim("DIRECT-24", case="daemon-returns", requires=(ORIGIN, TWO_PATHS, FULL_MESH))
def test_daemon_returns(client: Machine, server: Machine) -> None:
    """A connection survives the end of its daemon, and the next daemon manages it."""
    server_daemon.check_daemon_returns(client, server)


@claim("DIRECT-24", requires=(ORIGIN, TWO_PATHS, FULL_MESH))
@pytest.mark.parametrize("owner", server_daemon.UNITS)
def test_owner(client: Machine, server: Machine, evidence: EvidenceBox, owner: str) -> None:
    """A daemon that owns the server's path manager announces its addresses; its restart ends nothing."""
    server_daemon.check_owner(client, server, owner, evidence)


@claim("DIRECT-24", case="opens", requires=(ORIGIN, TWO_PATHS, SERVER_TWO_PATHS))
def test_opens(client: Machine, server: Machine) -> None:
    """The server opens a subflow to its client, as the daemon commands, and closes it."""
    check_opens(client, server, 4)


@claim("DIRECT-24", case="opens-ipv6", requires=(ORIGIN, TWO_PATHS, SERVER_TWO_PATHS, IPV6))
def test_opens_over_ipv6(client: Machine, server: Machine) -> None:
    """The server does so on a connection over IPv6."""
    check_opens(client, server, 6)


@claim("DIRECT-24", case="opens-to-port", requires=(ORIGIN, TWO_PATHS, SERVER_TWO_PATHS))
def test_opens_to_port(client: Machine, server: Machine) -> None:
    """The server opens a subflow to an address and port that the client announces, and closes it."""
    check_opens_to_announced_port(client, server)


@claim("DIRECT-24", case="both-ends", requires=(ORIGIN, TWO_PATHS, SERVER_TWO_PATHS))
def test_both_ends(client: Machine, server: Machine) -> None:
    """Each end announces and withdraws as commanded; the client opens, demotes and closes subflows."""
    check_orders_of_both(client, server, 4)


@claim("DIRECT-24", case="both-ends-ipv6", requires=(ORIGIN, TWO_PATHS, SERVER_TWO_PATHS, IPV6))
def test_both_ends_over_ipv6(client: Machine, server: Machine) -> None:
    """The same on a connection over IPv6, which also gets a subflow over IPv4."""
    check_orders_of_both(client, server, 6)


@claim("DIRECT-24", case="refused-subflow", requires=(ORIGIN, TWO_PATHS, SERVER_TWO_PATHS))
def test_refused_subflow(client: Machine, server: Machine) -> None:
    """A subflow that is refused is reported once and not counted, and the next one comes up."""
    check_refused_subflow(client, server)
