"""Order announcements, subflows and priorities from user space at both ends of one connection (DIRECT-24)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import EventWatch, ProbeError, Stream, eventually
from mptcp_lab.probe.steering import Steering
from mptcp_lab.suite.direct.event_order import Expected, describe, expect
from mptcp_lab.suite.direct.live import check_exchange, established_subflows
from mptcp_lab.suite.direct.server_daemon import SUBFLOW_TIMEOUT_S, Managed, managed_connection
from mptcp_lab.suite.sockets import AddressPair
from mptcp_lab.suite.split.forwarders import userspace_paths

#: The address ids that each end uses: three of announcements, and one of the client's subflows.
FIRST_ID, SECOND_ID, THIRD_ID, SUBFLOW_ID = 11, 12, 13, 14
#: A port that is announced, and that nobody connects to.
UNUSED_PORT = 7997


@dataclass(frozen=True)
class End:
    """One end of a connection: its host, its stream, and the events of its kernel."""

    machine: Machine
    stream: Stream
    watch: EventWatch

    def order(self, give: Callable[[Steering], None]) -> None:
        """Give an order about this end of the connection; fail if the kernel refuses it."""
        try:
            give(self.machine.probe.steering(self.stream))
        except ProbeError as error:
            raise AssertionError(f"the kernel of {self.machine.name} refused an order: {error}") from None

    def find_events(self, wanted: Expected) -> list[str]:
        """Return the events of this end's kernel that are as expected."""
        return [describe(event) for event in self.watch.all() if wanted.matches(event)]

    def check_notified(self, wanted: Expected) -> None:
        """Check that this end's kernel reports an event, once."""
        found = eventually(
            lambda: self.find_events(wanted),
            until=bool,
            within=SUBFLOW_TIMEOUT_S,
            what=f"the event {wanted} at {self.machine.name}",
        )
        assert len(found) == 1, f"{self.machine.name} reported an event {len(found)} times: {found[0]}"

    def count_further(self) -> int:
        """Return how many further subflows this end's kernel counts (MPTCP_INFO)."""
        info = self.stream.facts().info
        assert info is not None, f"the connection of {self.machine.name} fell back to TCP"
        return int(info["subflows"])


@dataclass(frozen=True)
class TwoDaemons:
    """A connection whose paths user space manages at both ends."""

    managed: Managed
    client: End
    server: End
    family: int

    def address(self, end: End, family: int = 0) -> str:
        """Return an end's second address, over the connection's IP version or another one."""
        return end.machine.address(1, family or self.family)

    def pair(self, family: int = 0) -> AddressPair:
        """Return the addresses of a subflow between the second addresses of both ends."""
        return self.address(self.client, family), self.address(self.server, family)

    @property
    def first(self) -> AddressPair:
        """Return the addresses of the first subflow."""
        return self.client.machine.address(0, self.family), self.server.machine.address(0, self.family)

    def open(self, pair: AddressPair, port: int) -> None:
        """Let the client open a subflow to a port of the server; it may fail later."""
        device = self.client.machine.paths[1].device
        self.client.order(
            lambda orders: orders.create_subflow(pair[0], SUBFLOW_ID, pair[1], port, device=device)
        )

    def check_opens_and_closes(self, pair: AddressPair, port: int, *, is_backup_later: bool = False) -> None:
        """Check that the client opens a subflow and closes it; it may become a backup in between."""
        self.open(pair, port)
        self.managed.wait_for({self.first, pair}, f"a subflow that the client opens to port {port}")
        check_exchange(self.managed.connection, "with the subflow")
        subflows = established_subflows(self.client.stream).values()
        subflow = next(each for each in subflows if (each.local, each.remote) == pair)
        assert subflow.rport == port, f"the client's subflow leads to port {subflow.rport}, not {port}"
        if is_backup_later:
            self.client.order(lambda orders: orders.set_backup(subflow, True))
            self.server.check_notified(expect("sub_priority", backup=1, daddr=pair[0]))
        self.client.order(lambda orders: orders.destroy_subflow(subflow))
        self.managed.wait_for({self.first}, "the end of the client's subflow")


@contextmanager
def two_daemons(client: Machine, server: Machine, family: int) -> Iterator[TwoDaemons]:
    """Connect a client to a server, over IPv4 (4) or IPv6 (6); user space manages the paths of both."""
    with (
        userspace_paths(client),
        client.probe.watch_events() as at_client,
        server.probe.watch_events() as at_server,
        managed_connection(client, server, family) as managed,
    ):
        check_exchange(managed.connection, "at first")
        ends = (
            End(client, managed.connection.stream, at_client),
            End(server, managed.connection.accepted, at_server),
        )
        yield TwoDaemons(managed, *ends, family)


def check_orders_of_both(client: Machine, server: Machine, family: int) -> None:
    """Check that each end announces and withdraws as commanded, and that the client opens and closes.

    On a connection over IPv4 addresses are announced with a port as well, and one subflow becomes a backup.
    One over IPv6 gets a subflow over IPv4 too.
    """
    with two_daemons(client, server, family) as both:
        _check_announces(both, both.client, both.server)
        _check_announces(both, both.server, both.client)
        both.check_opens_and_closes(both.pair(), both.managed.port, is_backup_later=True)
        other = both.pair() if family == 4 else both.pair(4)
        with server.probe.listen(other[1], 0) as listener:
            _check_announced(both.server, both.client, other[1], THIRD_ID, listener.port)
            both.check_opens_and_closes(other, listener.port)
        check_exchange(both.managed.connection, "at last")


def _check_announces(both: TwoDaemons, source: End, sink: End) -> None:
    """Check that the other end learns of an address that one end announces, and of its withdrawal."""
    _check_announced(source, sink, both.address(source), FIRST_ID, 0)
    if both.family == 4:  # over IPv6 a packet has no room for a port (R61)
        _check_announced(source, sink, both.address(source), SECOND_ID, UNUSED_PORT)
    source.order(lambda orders: orders.remove(FIRST_ID))
    sink.check_notified(expect("removed", rem_id=FIRST_ID))


def _check_announced(source: End, sink: End, address: str, identity: int, port: int) -> None:
    source.order(lambda orders: orders.announce(address, identity, port))
    with_port = {"dport": port} if port else {}
    sink.check_notified(expect("announced", rem_id=identity, daddr=address, **with_port))


def check_refused_subflow(client: Machine, server: Machine) -> None:
    """Check that a subflow that is refused is reported closed once, and counted no more.

    The next one comes up.
    """
    with two_daemons(client, server, 4) as both:
        pair, port = both.pair(), both.managed.port
        with server.probe.fault("reject", source=pair[0], dport=port):
            both.open(pair, port)
            both.client.check_notified(expect("sub_closed", saddr=pair[0], daddr=pair[1]))
        eventually(
            both.client.count_further,
            until=lambda further: further == 0,
            within=SUBFLOW_TIMEOUT_S,
            what=f"no further subflow that {client.name} counts after a refusal",
        )
        both.open(pair, port)
        both.managed.wait_for({both.first, pair}, "the next subflow")
        check_exchange(both.managed.connection, "with the next subflow")
        both.client.check_notified(expect("sub_closed", saddr=pair[0], daddr=pair[1]))
        found = both.client.count_further()
        assert found == 1, f"{client.name} counts {found} further subflows, one is there"
