"""DIRECT-22: an idle connection loses its paths, stays open, and continues when a new one comes."""

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim, mark_fast
from mptcp_lab.suite.direct import pathless
from mptcp_lab.suite.direct.live import check_exchange
from mptcp_lab.suite.requirements import FULL_MESH, ORIGIN, SPARE_NIC, TWO_PATHS


@claim("DIRECT-22", case="dead-path", requires=(ORIGIN, TWO_PATHS, FULL_MESH))
def test_dead_path(client: Machine, server: Machine) -> None:
    """An idle connection over a dead path loses the subflows of that path only, at both ends."""
    others = {client.address(path) for path in range(1, len(client.paths))}
    with pathless.short_keepalive((client, server)), pathless.idle_connection(client, server) as connection:
        pathless.keep_alive(connection)
        with pathless.dead_path(client, server, 0):
            pathless.wait_for_addresses(connection, others)
            check_exchange(connection, "beside the dead path")


@claim("DIRECT-22", case="new-nic", requires=(ORIGIN, FULL_MESH, SPARE_NIC))
def test_new_nic(client: Machine, server: Machine) -> None:
    """A connection whose last subflow is gone stays open, and continues when a new NIC comes."""
    with pathless.idle_connection(client, server) as connection:
        pathless.kill_every_subflow(connection)
        with pathless.new_nic(client, server) as address:
            pathless.check_continues(connection, address)


@mark_fast()
@claim("DIRECT-22", case="ordered", requires=(ORIGIN, TWO_PATHS))
def test_ordered_subflow(client: Machine, server: Machine) -> None:
    """A connection whose last subflow is gone continues when user space orders another one."""
    pathless.check_ordered(client, server)


@claim("DIRECT-22", case="fullmesh", requires=(ORIGIN, TWO_PATHS, FULL_MESH))
def test_fullmesh_endpoint(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """A connection whose last subflow is gone continues when a fullmesh endpoint comes back."""
    pathless.check_fullmesh_endpoint(client, server, evidence)


@claim("DIRECT-22", case="close-timeout", requires=(ORIGIN, FULL_MESH))
def test_close_timeout(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """A connection without a subflow lives for `close_timeout`; then both ends see its end."""
    pathless.check_ends(client, server, evidence)
