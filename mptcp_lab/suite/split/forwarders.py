"""Connect A to B through two packet-forwarding proxies, and inspect the connection afterwards.

The proxies rewrite addresses (DNAT) and pass MPTCP's options on, so the two ends speak MPTCP with each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_address

from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.inventory.model import Nic, Service
from mptcp_lab.machines.session import Machine, Session
from mptcp_lab.probe import eventually
from mptcp_lab.suite.expectations import announcing_nothing
from mptcp_lab.suite.find.forwarders import find_forwarders
from mptcp_lab.suite.gateway.routing import source_table
from mptcp_lab.suite.matrix import Matrix, Pair, reached_by
from mptcp_lab.suite.packets import capable, first_syns, format_segments, joins, rows, tcp_capture
from mptcp_lab.suite.sockets import AddressPair
from mptcp_lab.suite.traffic import FarEnd, Flow, Target
from mptcp_lab.wire.packet import Segment

#: When so many bytes have arrived at B, its acknowledgement is back at A: the connection is fully
#: established.
ESTABLISHED_BYTES = 10_000


@dataclass(frozen=True)
class Way:
    """One way from A to B: the NIC of A, the proxy, and the proxy's outside NIC on the same segment."""

    nic: Nic
    proxy: Machine
    outside: Nic

    @property
    def local(self) -> str:
        """Return A's address on this way."""
        return str(self.nic.address())

    @property
    def remote(self) -> str:
        """Return the proxy's outside address."""
        return str(self.outside.address())


@dataclass(frozen=True)
class Split:
    """Two ways to B's origin: the connection begins on the first, and a subflow joins it on the second."""

    client: Machine
    server: Machine
    ways: tuple[Way, Way]
    service: Service
    origin: Service
    backend: str
    snat: bool

    @property
    def far_end(self) -> FarEnd:
        """Return B, where A's subflows end, with the addresses that B sees for them."""
        return FarEnd(self.server, self.origin.port, self.seen_as)

    def seen_as(self, pair: AddressPair) -> str:
        """Return the address that B sees for a subflow: the proxy's inside address, or A's without SNAT."""
        proxy = next((way.proxy for way in self.ways if way.remote == pair[1]), None)
        return inside_address(proxy, self.server, self.backend) if proxy and self.snat else pair[0]

    @property
    def expected_matrix(self) -> Matrix:
        """Return the expected subflows: one on each way."""
        present = {
            Pair(way.nic.device, ip_address(way.local), ip_address(way.remote)): f"through {way.proxy.name}"
            for way in self.ways
        }
        return Matrix(present, {})

    @property
    def target(self) -> Target:
        """Return B's origin through the first proxy, with one expected subflow through each proxy."""
        first = self.ways[0]
        listener = (first.proxy, self.service, self.server, self.origin)
        return Target(*listener, to=first.remote, subflows=self.expected_matrix, ends_at=self.far_end)

    def flow(self) -> AbstractContextManager[Flow]:
        """Connect A to B through the first proxy."""
        return self.target.flow(self.client)

    @property
    def fullmesh(self) -> Matrix:
        """Return the subflows that A's fullmesh endpoints make: each NIC that reaches proxy 2 joins it."""
        second = self.ways[1]
        more = {
            Pair(nic.device, nic.ipv4.ip, ip_address(second.remote)): f"through {second.proxy.name}"
            for nic in self.client.paths
            if nic.ipv4 and reached_by(self.client.lab, nic, second.outside)
        }
        return Matrix({**self.expected_matrix.present, **more}, {})

    @contextmanager
    def announced_address(self) -> Iterator[None]:
        """Let B announce only the second proxy's outside address, which is not an address of B."""
        remote = self.ways[1].remote
        with (
            announcing_nothing(self.server),
            self.server.probe.fault("endpoint_add", address=remote, flags=["signal"]),
        ):
            yield

    @contextmanager
    def announced_to_one_address(self) -> Iterator[None]:
        """Do the same while A has no endpoints: its kernel joins once, from the address of its route."""
        with without_endpoints(self.client), self.announced_address():
            yield

    @contextmanager
    def routed_back(self) -> Iterator[None]:
        """Route B's answers to A through the proxies, as needed where these forward without source NAT."""
        table = source_table(self.server, self.backend)
        commands = [
            f"replace {way.local}/32 via {inside_address(way.proxy, self.server, self.backend)} table {table}"
            for way in self.ways
        ]
        with self.server.probe.fault("routes", commands=commands):
            yield

    @property
    def insides(self) -> set[str]:
        """Return the proxies' own addresses on B's side, which B sees after source NAT."""
        return {inside_address(way.proxy, self.server, self.backend) for way in self.ways}

    def seen_by_b(self, flow: Flow) -> set[str]:
        """Return the remote addresses of a connection's subflows, as B's kernel reports them."""
        facts = self.server.probe.origin(self.origin.name).facts(flow.record().number)
        return {subflow.remote for subflow in facts.subflows}

    def first_proxy_gone(self, machines: Session) -> AbstractContextManager[None]:
        """Pull every cable of the first proxy, so that it disappears without closing any connection."""
        return cables_out(machines, self.ways[0].proxy)

    @contextmanager
    def first_proxy_deaf(self, _: Session) -> Iterator[None]:
        """Switch off forwarding on the first proxy, while its links stay up."""
        proxy = self.ways[0].proxy
        with ExitStack() as stack:
            for nic in proxy.host.nics:  # forwarding is set per NIC of the lab, not for the whole host
                name = f"net.ipv4.conf.{nic.device}.forwarding"
                stack.enter_context(proxy.probe.fault("sysctl", name=name, value=0))
            yield

    @contextmanager
    def outside_captures(self) -> Iterator[Callable[[], list[list[Segment]]]]:
        """Capture on both proxies' outside NICs; yield a function that returns the packets of each.

        The function ends the captures, so it can be called once.
        """
        with ExitStack() as stack:
            captures = [
                stack.enter_context(tcp_capture(way.proxy, self.service.port, [way.outside.device]))
                for way in self.ways
            ]
            yield lambda: [capture.stop() for capture in captures]


@contextmanager
def cables_out(machines: Session, machine: Machine) -> Iterator[None]:
    """Pull every cable of a machine, and plug them in again at the end of the block."""
    with ExitStack() as stack:
        for nic in machine.host.nics:
            stack.enter_context(machines.cable_out(machine, nic))
        yield


def wait_until_established(flow: Flow) -> None:
    """Wait until B has received enough of a stream for A's connection to be fully established."""
    eventually(
        lambda: flow.record().bytes_received,
        until=lambda nbytes: nbytes >= ESTABLISHED_BYTES,
        within=10,
        what="bytes at B",
    )


@contextmanager
def without_endpoints(machine: Machine) -> Iterator[None]:
    """Remove all MPTCP endpoints of a machine, and restore them at the end of the block."""
    with ExitStack() as stack:
        for endpoint in machine.probe.endpoints():
            stack.enter_context(machine.probe.fault("endpoint_remove", address=endpoint.address))
        yield


def split_of(
    machines: Session, client: Machine, server: Machine, *, snat: bool = True, one_nic: bool = False
) -> Split:
    """Return two ways from A to B through forwarders with or without source NAT (`snat`).

    With `one_nic` both ways leave by A's first NIC.

    Raises:
        Unsupported: the lab has no two such forwarders.
    """
    found = find_forwarders(machines.lab, client.host, server.host, snat=snat, one_nic=one_nic)
    first, second = (Way(nic, machines.machine_of(host), outside) for nic, host, outside in found.ways)
    _, origin = machines.backend(found.service)
    backend = backend_address(machines.machines[found.service.host], server)
    return Split(client, server, (first, second), found.service, origin, backend, snat)


def reversed_ways(split: Split) -> Split:
    """Return the split with its two ways exchanged, so that the connection begins on the second one."""
    first, second = split.ways
    return replace(split, ways=(second, first))


def backend_address(proxy: Machine, server: Machine) -> str:
    """Return B's address to which a forwarder sends: on a shared core segment, else on any shared segment."""
    shared = [nic for nic in server.host.nics if proxy.host.nic_on(nic.segment) and nic.up]
    core = [nic for nic in shared if server.lab.segments[nic.segment].kind == "core"]
    return str((core or shared)[0].address())


def inside_address(proxy: Machine, server: Machine, backend: str) -> str:
    """Return the forwarder's own address on the segment of B's backend address."""
    nic = next(nic for nic in server.host.nics if str(nic.address()) == backend)
    inside = proxy.host.nic_on(nic.segment)
    assert inside is not None, f"{proxy.name} is not on {nic.segment}"
    return str(inside.address())


@contextmanager
def userspace_paths(machine: Machine) -> Iterator[None]:
    """Leave path management to user space, for connections that begin in the block."""
    by_name = "net.mptcp.path_manager" in machine.probe.sysctls()  # since Linux 6.15
    name, value = ("net.mptcp.path_manager", "userspace") if by_name else ("net.mptcp.pm_type", "1")
    with machine.probe.fault("sysctl", name=name, value=value):
        yield


def check_one_subflow_per_proxy(
    split: Split, seen: Sequence[Sequence[Segment]], evidence: EvidenceBox
) -> None:
    """Check that the first proxy forwarded the connection's SYN, and the second one its only join."""
    evidence.subflows(split.expected_matrix.rows())
    start = seen[0][0].time_ns
    for way, packets in zip(split.ways, seen, strict=True):
        device = way.outside.device
        evidence.packets(
            rows(packets, way.proxy.name, device), f"packets at {way.proxy.name}, {device}", zero_ns=start
        )
    opened, joined = (first_syns(packets) for packets in seen)
    assert subflows(opened) == 1 and all(capable(s) for s in opened), (
        f"at the first: {format_segments(opened)}"
    )
    assert subflows(joined) == 1 and joins(joined) == joined, f"at the second: {format_segments(joined)}"


def subflows(syns: Sequence[Segment]) -> int:
    """Return how many different subflows these SYNs ask for; a SYN that was sent twice counts once."""
    return len({(s.src, s.sport) for s in syns})
