"""Put an attacker between two hosts on one path: the path's packets are routed through its host."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from mptcp_lab.inventory.model import Nic
from mptcp_lab.machines.session import Machine
from mptcp_lab.suite.gateway.routing import on_segment, source_table

#: The octet of every segment's payload that the attacker changes; a shorter segment passes unchanged.
CHANGED_OCTET = 7


@contextmanager
def in_the_middle(attacker: Machine, client: Machine, server: Machine, path: int = 0) -> Iterator[None]:
    """Route what a client's path NIC exchanges with the server's paths through the attacker, in the block.

    Faults with direction "forward" on the attacker then see and change every packet of the path.
    """
    mine, here = client.paths[path], client.address(path)
    with ExitStack() as stack:
        stack.enter_context(attacker.probe.fault("sysctl", name="net.ipv4.ip_forward", value=1))
        shared = [nic for nic in server.paths if nic.ipv4 and attacker.host.nic_on(nic.segment)]
        to_server = [_route_through(attacker, client, (here, mine), str(nic.address())) for nic in shared]
        stack.enter_context(client.probe.fault("routes", commands=to_server))
        to_client = [_route_through(attacker, server, (str(nic.address()), nic), here) for nic in shared]
        stack.enter_context(server.probe.fault("routes", commands=to_client))
        yield


def _route_through(attacker: Machine, machine: Machine, source: tuple[str, Nic], to: str) -> str:
    """Return the `ip route` command by which a machine sends packets to an address through the attacker."""
    address, nic = source
    table = source_table(machine, address)
    return f"replace {to}/32 via {on_segment(attacker, nic.segment)} dev {nic.device} table {table}"


def payload_changed(attacker: Machine, client: Machine, port: int) -> AbstractContextManager[object]:
    """Change an octet of each segment from the client's first path to a port, with a right TCP checksum."""
    source = client.address(0)
    return attacker.probe.fault(
        "flip", direction="forward", position=CHANGED_OCTET, source=source, dport=port
    )


def checksums(client: Machine, *, asked: bool) -> AbstractContextManager[object]:
    """Let a client ask for checksums (DSS) on its connections in the block, or not ask for them."""
    return client.probe.fault("sysctl", name="net.mptcp.checksum_enabled", value=int(asked))
