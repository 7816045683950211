"""Manage the paths of a server from user space, with and without a daemon (DIRECT-24).

To the kernel a daemon is a program that listens to the events of the path manager, as a probe's watch does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mptcp_lab.errors import Unsupported
from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import Counters, ProbeError, eventually
from mptcp_lab.probe.steering import Steering
from mptcp_lab.suite.direct.both_ends import Served, served_client, server_listeners
from mptcp_lab.suite.direct.live import check_exchange, established_subflows, live_connection
from mptcp_lab.suite.direct.spare import path_manager
from mptcp_lab.suite.expectations import expected_pairs, wait_for_joins
from mptcp_lab.suite.packets import format_segments, joins, reset_reasons, rows, tcp_capture
from mptcp_lab.suite.sockets import AddressPair
from mptcp_lab.suite.split.forwarders import userspace_paths
from mptcp_lab.wire.options.addresses import AddAddr

SUBFLOW_TIMEOUT_S = 10.0
#: The ids under which the server announces its second address, one after the other.
FIRST_ID, SECOND_ID = 7, 8
#: The address that the client announces. No host has it (RFC 5737).
ANNOUNCED = "192.0.2.9"
#: The reason of a RST that refuses a subflow (RFC 8684, 3.6).
PROHIBITED = "administratively prohibited"
#: The unit of each daemon that may own a path manager.
UNITS = {"mptcpd": "mptcp.service", "networkmanager": "NetworkManager.service"}


@dataclass(frozen=True)
class Managed:
    """A connection to a server whose paths user space manages."""

    client: Machine
    server: Machine
    connection: Served

    @property
    def port(self) -> int:
        """Return the server's port."""
        assert self.connection.stream.peer is not None, f"the connection of {self.client.name} has no peer"
        return self.connection.stream.peer.port

    def order(self, give: Callable[[Steering], None]) -> None:
        """Give an order about the server's end of the connection; fail if the kernel refuses it."""
        try:
            give(self.server.probe.steering(self.connection.accepted))
        except ProbeError as error:
            raise AssertionError(f"the kernel of {self.server.name} refused an order: {error}") from None

    def pairs(self) -> set[AddressPair]:
        """Return the subflows that both ends have established, as the client's addresses and the server's."""
        mine = {(each.local, each.remote) for each in established_subflows(self.connection.stream).values()}
        theirs = established_subflows(self.connection.accepted).values()
        return mine & {(each.remote, each.local) for each in theirs}

    def pairs_to(self, *paths: int) -> set[AddressPair]:
        """Return the subflows from every address of the client to the server's addresses on these paths."""
        remotes = {self.server.address(path) for path in paths}
        return expected_pairs(self.client, self.server).pairs_towards(remotes).addresses

    def wait_for(self, pairs: set[AddressPair], what: str) -> None:
        """Wait until both ends have established just these subflows."""
        eventually(self.pairs, until=lambda found: found == pairs, within=SUBFLOW_TIMEOUT_S, what=what)


@contextmanager
def managed_connection(client: Machine, server: Machine, family: int = 4) -> Iterator[Managed]:
    """Connect a client over IPv4 (4) or IPv6 (6) to a server that leaves its paths to user space."""
    with (
        userspace_paths(server),
        server_listeners(server, family) as listeners,
        served_client(client, server, listeners) as connection,
    ):
        yield Managed(client, server, connection)


def check_refuses(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """Check that without a daemon the server refuses joins, and does not echo what the client announces."""
    with managed_connection(client, server) as managed, tcp_capture(server, managed.port) as capture:
        before = server.probe.counters()
        check_exchange(managed.connection, "at first")
        _wait_for_verdict(server, before)
        with client.probe.fault("endpoint_add", address=ANNOUNCED, flags=["signal"]):
            wait_for_counter(server, before, "AddAddr", "an announcement")
            check_exchange(managed.connection, "after it")
        first = {(client.address(0), server.address(0))}
        managed.wait_for(first, "the first subflow alone")
        packets = capture.stop()
    evidence.packets(rows(packets, server.name))
    echoed = [o for s in packets for o in s.options if isinstance(o, AddAddr) and o.echo]
    assert joins(packets), f"no join was captured, only {format_segments(packets)}"
    reasons = reset_reasons(s for s in packets if s.sport == managed.port)
    assert PROHIBITED in reasons, f"the joins were not refused: {format_segments(joins(packets))}"
    assert not echoed, f"the server answered the announcement: {echoed}"


def _wait_for_verdict(server: Machine, before: Counters) -> None:
    """Wait until the server has got a join, and, where its kernel counts that, has refused it."""
    wait_for_counter(server, before, "MPJoinSynRx", "a join")
    if before.has("MPJoinRejected"):
        taken, refused = eventually(
            lambda: [_grown(server, before, name) for name in ("MPJoinAckRx", "MPJoinRejected")],
            until=any,
            within=SUBFLOW_TIMEOUT_S,
            what=f"the verdict of {server.name} about a join",
        )
        assert not taken, f"{server.name} accepted {taken} joins without a daemon, it refused {refused}"


def _grown(machine: Machine, before: Counters, name: str) -> int:
    return machine.probe.counters().delta(before).mptcp(name)


def wait_for_counter(machine: Machine, before: Counters, name: str, what: str) -> None:
    """Wait until a counter has grown; `what` is for the message."""
    eventually(
        lambda: _grown(machine, before, name),
        until=bool,
        within=SUBFLOW_TIMEOUT_S,
        what=f"{what} at {machine.name} ({name})",
    )


def check_obeys(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """Check that the server announces, withdraws and closes what a daemon orders, and nothing else."""
    with server.probe.watch_events(), managed_connection(client, server) as managed:
        check_exchange(managed.connection, "at first")
        managed.wait_for(managed.pairs_to(0), "joins to the first address only")
        managed.order(lambda orders: orders.announce(server.address(1), FIRST_ID))
        managed.wait_for(managed.pairs_to(0, 1), "joins to the announced address")
        managed.order(lambda orders: orders.remove(FIRST_ID))
        managed.wait_for(managed.pairs_to(0), "the end of the withdrawn address's subflows")
        managed.order(lambda orders: orders.announce(server.address(1), SECOND_ID))
        managed.wait_for(managed.pairs_to(0, 1), "joins to the address that is announced again")
        closed = _close_one(managed)
        managed.wait_for(managed.pairs_to(0, 1) - {closed}, "the end of one subflow")
        managed.order(lambda orders: orders.remove(0))
        left = managed.pairs_to(1) - {closed}
        managed.wait_for(left, "the end of the subflows of id 0")
        check_exchange(managed.connection, "over the announced address")
        evidence.subflows([{"local": local, "remote": remote} for local, remote in sorted(left)])


def _close_one(managed: Managed) -> AddressPair:
    """Close the subflow between the second addresses of both ends by an order; return its addresses."""
    pair = (managed.client.address(1), managed.server.address(1))
    subflows = established_subflows(managed.connection.accepted).values()
    subflow = next(each for each in subflows if (each.remote, each.local) == pair)
    managed.order(lambda orders: orders.destroy_subflow(subflow))
    return pair


def check_daemon_returns(client: Machine, server: Machine) -> None:
    """Check that a connection survives without its daemon, and that the next daemon manages it."""
    with managed_connection(client, server) as managed:
        with server.probe.watch_events():
            check_exchange(managed.connection, "at first")
            managed.wait_for(managed.pairs_to(0), "joins while the daemon runs")
        check_exchange(managed.connection, "without a daemon")
        assert managed.pairs() == managed.pairs_to(0), "subflows ended with the daemon"
        with server.probe.watch_events():
            managed.order(lambda orders: orders.announce(server.address(1), FIRST_ID))
            managed.wait_for(managed.pairs_to(0, 1), "joins that the next daemon allows")
            check_exchange(managed.connection, "with the next daemon")


def check_owner(client: Machine, server: Machine, owner: str, evidence: EvidenceBox) -> None:
    """Check that a daemon on the server announces its addresses, and that its restart ends no connection.

    Raises:
        Unsupported: the daemon does not own the server's path manager.
    """
    if (found := path_manager(server)) != owner:
        raise Unsupported(owner, f"the path manager here is {found}", server.name)
    endpoints = server.probe.endpoints()
    with live_connection(client, server) as data:
        wait_for_joins(data.connection, expected_pairs(client, server)).keep(evidence)
        data.carry()
        with server.probe.fault("kill", unit=UNITS[owner]):
            data.carry()
        eventually(
            lambda: {each.address for each in server.probe.endpoints()},
            until=lambda addresses: addresses == {each.address for each in endpoints},
            within=SUBFLOW_TIMEOUT_S,
            what=f"the endpoints of {owner} after its restart",
        )
        data.carry()
        data.check_intact()
