"""Open connections of which the probes hold both ends: the server's probe listens and accepts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import Listener, Stream
from mptcp_lab.suite.expectations import origin_of
from mptcp_lab.suite.sockets import AddressPair, at_both_ends
from mptcp_lab.suite.traffic import FarEnd, Flow, Opening, flow


class Served(Flow):
    """One connection from a client to a listener that the server's probe opened for the check.

    ``accepted`` is the server's end of the connection.
    """

    def __init__(self, stream: Stream, accepted: Stream, far_end: FarEnd, examined: Opening) -> None:
        super().__init__(stream, far_end.machine, origin_of(far_end.machine), examined)
        self.accepted = accepted
        self._end = far_end

    def pairs(self) -> set[AddressPair]:
        """Return the subflows (local, remote) that the client and the server have both established."""
        mine = self.stream.facts().subflows
        return at_both_ends(mine, self._end.sockets() if mine else ())


@contextmanager
def server_listeners(server: Machine, family: int = 4) -> Iterator[list[Listener]]:
    """Listen with MPTCP on the server's path addresses, on one free port that is the same on each.

    They are IPv4 (4) or IPv6 (6) addresses.
    """
    with ExitStack() as stack:
        first, *others = [str(found) for nic in server.paths if (found := nic.address(family))]
        listeners = [stack.enter_context(server.probe.listen(first, 0))]
        port = listeners[0].port
        listeners += [stack.enter_context(server.probe.listen(address, port)) for address in others]
        yield listeners


@contextmanager
def served_client(client: Machine, server: Machine, listeners: list[Listener]) -> Iterator[Served]:
    """Connect a client to the server's first listener, and accept the connection there."""
    to = listeners[0].local
    assert to is not None, f"the listener at {server.name} has no local address"
    origin = origin_of(server)
    examined = Opening(
        client,
        FarEnd(server, origin.port),
        (client.probe.counters(), server.probe.counters()),
        lambda: flow(client, to.address, origin.port, server, origin),
    )
    with (
        client.probe.connect(to.address, to.port) as stream,
        listeners[0].accept() as accepted,
    ):
        yield Served(stream, accepted, FarEnd(server, to.port), examined)
