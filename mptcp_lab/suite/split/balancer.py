"""Put a layer-4 balancer with one shared address before two MPTCP servers (SPLIT-9)."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.machines.session import Machine, Session
from mptcp_lab.probe import ConnectFailed, Counters, Listener, NeverHappened, Stream, eventually
from mptcp_lab.probe.facts import TCP_ESTABLISHED
from mptcp_lab.suite.deviations import (
    DEFAULT_LIMITS,
    PORT_ENDPOINT,
    check_not_lacking,
    find_correction,
    keep,
)
from mptcp_lab.suite.expectations import announcing_only
from mptcp_lab.suite.find.hosts import find_balanced, find_client, find_router
from mptcp_lab.suite.gateway.routing import on_segment
from mptcp_lab.suite.sockets import AddressPair

#: A client's limits as a kernel has them without configuration.
DEFAULT_SUBFLOWS, DEFAULT_ACCEPTED = 2, 0
JOINED_WITHIN_SECONDS = 10.0
#: The hash of a random source port sends so many connections to the same one of two servers once in 10^9
#: times.
MOST_CONNECTIONS = 30
#: The counter of connections that were refused because the port is for joins (Linux 6.12).
ATTEMPTS = "MPCapableEndpAttempt"
#: So many octets each way complete the handshake of MPTCP.
SOME_BYTES = 1000


@dataclass(frozen=True)
class Server:
    """One server behind the balancer.

    ``behind`` is its address there, and ``announced`` the address and port to which it asks clients to join;
    port 0 is the port of the connection itself.
    """

    machine: Machine
    behind: str
    announced: tuple[str, int]
    listener: Listener


@dataclass(frozen=True)
class Balancer:
    """A balancer's shared address and port, and the servers behind it."""

    client: Machine
    address: str
    port: int
    servers: tuple[Server, ...]

    @contextmanager
    def connection_to_each(self) -> Iterator[list[tuple[Server, Stream]]]:
        """Connect to the shared address until each server has a connection; yield one of each server."""
        with ExitStack() as stack:
            found: dict[str, tuple[Server, Stream]] = {}
            for _ in range(MOST_CONNECTIONS):
                before = [server.listener.accepted_count for server in self.servers]
                stream = stack.enter_context(self.client.probe.connect(self.address, self.port))
                server = self._find_taker(before)
                accepted = stack.enter_context(server.listener.accept())
                # A reset leaves no TIME-WAIT, which would keep the port from the next check's endpoint.
                stack.callback(stream.close, reset=True)
                if server.machine.name not in found:
                    found[server.machine.name] = (server, stream)
                    _exchange(stream, accepted)
                if len(found) == len(self.servers):
                    break
            yield [found[server.machine.name] for server in self.servers if server.machine.name in found]

    def _find_taker(self, before: list[int]) -> Server:
        """Return the server that has accepted one connection more than before."""
        number = eventually(
            lambda: [s.listener.accepted_count - n for s, n in zip(self.servers, before, strict=True)],
            until=lambda grown: sum(grown) == 1,
            within=5,
            what="one connection more at one server",
        ).index(1)
        return self.servers[number]


def _exchange(stream: Stream, accepted: Stream) -> None:
    """Send some data each way, which completes the handshake of MPTCP."""
    for sender, receiver in ((stream, accepted), (accepted, stream)):
        sender.send(SOME_BYTES).wait(10)
        receiver.receive(SOME_BYTES).wait(10)


@contextmanager
def balancer(machines: Session, port: int, own_port: int = 0) -> Iterator[Balancer]:
    """Balance connections to the gateway over two servers with the C flag, for a client at default limits.

    Each server announces another address: on the client's second path, or, with `own_port`, the address
    behind the gateway with that port.
    """
    lab = machines.lab
    client, router = machines.machine_of(find_client(lab)), machines.machine_of(find_router(lab))
    shared = on_segment(router, client.paths[0].segment)
    with ExitStack() as stack:
        servers = []
        for host, behind, outside in find_balanced(lab, client.host, router.host):
            machine = machines.machine_of(host)
            announced = (behind, own_port) if own_port else (outside, 0)
            servers.append(_prepare(stack, machine, behind, announced, port))
        _use_default_limits(stack, client)
        behind_all = [server.behind for server in servers]
        stack.enter_context(router.probe.fault("balance", address=shared, port=port, servers=behind_all))
        yield Balancer(client, shared, port, tuple(servers))


def _prepare(
    stack: ExitStack, machine: Machine, behind: str, announced: tuple[str, int], port: int
) -> Server:
    """Set the C flag on a server, let it announce one address, and listen."""
    fault = machine.probe.fault
    stack.enter_context(announcing_only(machine, announced[:1]))
    stack.enter_context(fault("sysctl", name="net.mptcp.allow_join_initial_addr_port", value=0))
    listener = stack.enter_context(machine.probe.listen(behind, port))
    if not announced[1]:
        stack.enter_context(machine.probe.listen(announced[0], port))
    if announced[0] not in {endpoint.address for endpoint in machine.probe.endpoints()}:
        stack.enter_context(fault("endpoint_add", address=announced[0], port=announced[1], flags=["signal"]))
    return Server(machine, behind, announced, listener)


def _use_default_limits(stack: ExitStack, client: Machine) -> None:
    """Give a client the default limits and endpoints that are no full mesh."""
    fault = client.probe.fault
    stack.enter_context(fault("limits", subflows=DEFAULT_SUBFLOWS, add_addr_accepted=DEFAULT_ACCEPTED))
    for endpoint in client.probe.endpoints():
        if "fullmesh" in endpoint.flags:
            flags = sorted(endpoint.flags - {"fullmesh"})
            stack.enter_context(fault("endpoint_change", address=endpoint.address, flags=flags))


def wait_for_own_join(client: Machine, server: Server, stream: Stream) -> set[AddressPair]:
    """Wait until a client has joined the address that a server announced; return all of the joined pairs.

    Raises:
        Unsupported: the client's kernel is known not to join at default limits.
        NeverHappened: no join came up.
    """
    address, port = server.announced

    def joined_pairs() -> set[AddressPair]:
        up = [s for s in stream.facts().subflows if s.tcp.get("state", TCP_ESTABLISHED) == TCP_ESTABLISHED]
        return {(s.local, s.remote) for s in up if s.remote == address and port in (0, s.rport)}

    try:
        return eventually(
            joined_pairs,
            until=lambda pairs: client.address(1) in {local for local, _ in pairs},
            within=JOINED_WITHIN_SECONDS,
            what=f"a join of {client.name} to {address}, which {server.machine.name} announced",
        )
    except NeverHappened:
        check_not_lacking(
            DEFAULT_LIMITS, client.probe.kernel, client.name, what="a join at default limits with the C flag"
        )
        raise


def lost_joins(balancing: Balancer, before: Sequence[Counters]) -> dict[str, int]:
    """Return how many joins reached a server that has no such connection, by the server's name."""
    grown = {
        server.machine.name: server.machine.probe.counters().delta(then).mptcp("MPJoinNoTokenFound")
        for server, then in zip(balancing.servers, before, strict=True)
    }
    return {name: count for name, count in grown.items() if count}


def check_refuses(balancing: Balancer, protocol: str, evidence: EvidenceBox) -> None:
    """Check that no server accepts a connection on the port that it announces for joins.

    Older kernels are known to accept some there, which the evidence then has as a deviation.
    """
    for server in balancing.servers:
        before = server.machine.probe.counters()
        try:
            balancing.client.probe.connect(*server.announced, protocol=protocol).close(reset=True)
        except ConnectFailed as failed:
            evidence.figure(f"refused by {server.machine.name} after", 1000 * failed.seconds, "ms")
            assert failed.errno == errno.ECONNREFUSED, f"connect() to a port for joins: {failed}"
            if before.has(ATTEMPTS):
                counted = server.machine.probe.counters().delta(before).mptcp(ATTEMPTS)
                assert counted, (
                    f"{server.machine.name} has no port for joins ({ATTEMPTS}), nothing refused it"
                )
            continue
        correction = find_correction(PORT_ENDPOINT, server.machine.probe.kernel)
        assert correction, f"{server.machine.name} accepted a {protocol} connection on its port for joins"
        keep(correction, evidence)
