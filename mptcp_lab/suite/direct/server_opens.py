"""Let a server's daemon open subflows to its client, and close them (DIRECT-24)."""

from __future__ import annotations

from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import NewEndpoint
from mptcp_lab.suite.direct.endpoints import SIGNAL
from mptcp_lab.suite.direct.live import check_exchange, established_subflows
from mptcp_lab.suite.direct.ports import find_free_port
from mptcp_lab.suite.direct.server_daemon import Managed, managed_connection, wait_for_counter

#: The id of the server's second address, which it has not announced.
OWN_ID = 23


def check_opens(client: Machine, server: Machine, family: int) -> None:
    """Check that a server opens the subflow to its client that a daemon orders, and closes it.

    It leads to the client's second address and the port of its first subflow, on which a program listens.
    """
    with (
        client.probe.replace_endpoints(),
        server.probe.watch_events(),
        managed_connection(client, server, family) as managed,
    ):
        own = managed.connection.stream.local
        assert own is not None, f"the connection of {client.name} has no local address"
        check_exchange(managed.connection, "at first")
        with client.probe.listen(client.address(1, family), own.port) as listener:
            _check_opens_and_closes(managed, family, own.port)
            assert listener.accepted_count == 0, "the subflow became a connection"


def check_opens_to_announced_port(client: Machine, server: Machine) -> None:
    """Check the same for a port that the client announces, on which its kernel listens."""
    address, device = client.address(1), client.paths[1].device
    announced = NewEndpoint(address, SIGNAL, device=device, port=find_free_port(client, address))
    with (
        client.probe.replace_endpoints() as endpoints,
        server.probe.watch_events(),
        managed_connection(client, server) as managed,
    ):
        check_exchange(managed.connection, "at first")
        before = server.probe.counters()
        endpoints.add(announced)
        wait_for_counter(server, before, "AddAddr", "an announcement with a port")
        _check_opens_and_closes(managed, 4, announced.port)


def _check_opens_and_closes(managed: Managed, family: int, port: int) -> None:
    client, server = managed.client, managed.server
    first = (client.address(0, family), server.address(0, family))
    opened = (client.address(1, family), server.address(1, family))
    device = server.paths[1].device
    managed.order(lambda orders: orders.create_subflow(opened[1], OWN_ID, opened[0], port, device=device))
    managed.wait_for({first, opened}, f"a subflow that the server opens to port {port}")
    subflows = established_subflows(managed.connection.accepted).values()
    subflow = next(each for each in subflows if (each.remote, each.local) == opened)
    assert subflow.rport == port, f"the server's subflow leads to port {subflow.rport}, not {port}"
    check_exchange(managed.connection, "with the subflow")
    managed.order(lambda orders: orders.destroy_subflow(subflow))
    managed.wait_for({first}, "the end of the subflow")
    check_exchange(managed.connection, "after the subflow")
