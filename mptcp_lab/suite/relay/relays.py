"""Connect a plain client to a plain origin through two proxies, and look at the leg between the proxies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address

from mptcp_lab.errors import Unsupported
from mptcp_lab.inventory.model import Nic, Service
from mptcp_lab.machines.session import Machine, Session
from mptcp_lab.probe import Counters, NeverHappened, eventually
from mptcp_lab.suite.expectations import (
    JOINED_WITHIN_SECONDS,
    Joined,
    SubflowsMissing,
    expected_pairs,
    room_between,
)
from mptcp_lab.suite.find.hosts import shared_paths
from mptcp_lab.suite.find.proxies import find_two_legs
from mptcp_lab.suite.find.relays import find_relay
from mptcp_lab.suite.matrix import Matrix, Pair, reached_by
from mptcp_lab.suite.packets import TcpCapture, tcp_capture
from mptcp_lab.suite.sockets import ESTABLISHED, AddressPair, TcpSocket, parse_sockets, ss_command
from mptcp_lab.suite.traffic import Flow, Target
from mptcp_lab.wire import Segment

#: The path of the client's own leg. The first path is the one that is lost between the proxies.
OUTER_PATH = 1
#: Counters that say what became of a connection, for the message about missing subflows.
TELLING = ("MPCapable", "MPJoin", "AddAddr", "MPTCPFallback")


@dataclass(frozen=True)
class MiddleLeg:
    """The connections from a proxy, called front, to a service of another host, called back."""

    front: Machine
    back: Machine
    service: Service

    @property
    def port(self) -> int:
        """Return the port at the back."""
        return self.service.port

    @property
    def paths(self) -> list[tuple[Nic, Nic]]:
        """Return the NICs of front and back on each shared path segment, first subflow first."""
        return shared_paths(self.front.host, self.back.host, self.front.lab)

    @property
    def family(self) -> int:
        """Return the IP version of the connection: 4 where both have such an address on the first path."""
        mine, theirs = self.paths[0]
        return 4 if mine.ipv4 and theirs.ipv4 else 6

    def expected_matrix(self) -> Matrix:
        """Return the subflows to expect, which follow from the endpoints of the front.

        With `subflow fullmesh` there is one from each address to each of the back's. With `signal` the kernel
        opens one to each address that the back announces, from the address that the route gives.

        Raises:
            Unsupported: the front's endpoints have other flags.
        """
        flags = {flag for nic in self.front.paths for flag in nic.endpoint}
        if "subflow" not in flags and "laminar" not in flags:
            return self._one_per_address()
        return expected_pairs(self.front, self.back, self.family)

    def _one_per_address(self) -> Matrix:
        present: dict[Pair, str] = {}
        absent: dict[Pair, str] = {}
        for number, theirs in enumerate(self._addresses()):
            for mine, how in self._ways(theirs):
                local, remote = mine.address(self.family), theirs.address(self.family)
                if local and remote:
                    why = how if number == 0 else f"announced, {how}"
                    present[Pair(mine.device, ip_address(str(local)), ip_address(str(remote)))] = why
                    break
        return Matrix(present, absent, room=room_between(self.front.host, self.back.host))

    def _addresses(self) -> list[Nic]:
        """Return the back's path NICs, that of the first subflow before those that it announces."""
        first = self.paths[0][1]
        others = [nic for nic in self.back.paths if nic != first and "signal" in nic.endpoint]
        return [first, *others]

    def _ways(self, theirs: Nic) -> Iterator[tuple[Nic, str]]:
        """Yield the front's NICs that reach a NIC, with how: those on its segment first."""
        nics = sorted(self.front.paths, key=lambda nic: nic.segment != theirs.segment)
        for nic in nics:
            if how := reached_by(self.front.lab, nic, theirs):
                yield nic, how

    def pairs(self) -> set[AddressPair]:
        """Return the subflows (front, back) that both hosts have established."""
        return {(local, remote) for local, _, remote, _ in self.subflows()}

    def subflows(self) -> set[tuple[str, int, str, int]]:
        """Return address and port of front and back of each subflow that both hosts have established."""
        near = _established_sockets(self.front, "dport", self.port)
        far = _established_sockets(self.back, "sport", self.port)
        known = {(each.remote, each.rport, each.local, each.lport) for each in far}
        return {(each.local, each.lport, each.remote, each.rport) for each in near} & known

    def wait_for_subflows(self, before: tuple[Counters, Counters]) -> Joined:
        """Wait until every expected subflow between the proxies is established; return all that are.

        `before` has the counters of front and back from before the connection was opened.

        Raises:
            SubflowsMissing: some did not come up; the message has what both hosts have counted.
        """
        matrix = self.expected_matrix()
        try:
            found = eventually(
                self.pairs, until=lambda pairs: pairs >= matrix.addresses, within=JOINED_WITHIN_SECONDS
            )
        except NeverHappened:
            missing = ", ".join(f"{a} > {b}" for a, b in sorted(matrix.addresses - self.pairs()))
            counted = [
                f"{machine.name} counted {_select_counters(machine.probe.counters().delta(then))}"
                for machine, then in zip((self.front, self.back), before, strict=True)
            ]
            raise SubflowsMissing(
                f"between {self.front.name} and {self.back.name} these subflows did not come up: {missing}; "
                + "; ".join(counted)
            ) from None
        return Joined(found, matrix)

    def counters(self) -> tuple[Counters, Counters]:
        """Return the current counters of front and back."""
        return self.front.probe.counters(), self.back.probe.counters()

    @contextmanager
    def capture(self) -> Iterator[MiddleCapture]:
        """Capture the packets of this leg at the front."""
        devices = [nic.device for nic in self.front.paths]
        addresses = {str(nic.address(family)) for nic in self.back.paths for family in (4, 6)}
        with tcp_capture(self.front, self.port, devices) as capture:
            yield MiddleCapture(capture, frozenset(addresses), self)


@dataclass(frozen=True)
class MiddleCapture:
    """A running capture at the front, from which only the packets to and from the back are returned."""

    capture: TcpCapture
    addresses: frozenset[str]
    leg: MiddleLeg

    def stop(self) -> list[Segment]:
        """End the capture; return the leg's packets in order of time, and fail the check without any."""
        found = [
            each
            for each in self.capture.stop(may_be_empty=True)
            if (str(each.dst) in self.addresses and each.dport == self.leg.port)
            or (str(each.src) in self.addresses and each.sport == self.leg.port)
        ]
        front, back = self.leg.front.name, self.leg.back.name
        assert found, f"no packet between {front} and port {self.leg.port} of {back} was captured at {front}"
        return found


def _established_sockets(machine: Machine, side: str, port: int) -> list[TcpSocket]:
    printed = machine.probe.run(ss_command(side, port)).stdout
    return [each for each in parse_sockets(printed) if each.state == ESTABLISHED]


def _select_counters(moved: Counters) -> dict[str, int]:
    """Return the counters that say what became of a connection, without those that are zero."""
    return {name: count for name, count in moved.changes().items() if any(word in name for word in TELLING)}


@dataclass(frozen=True)
class Relay:
    """Two proxies in a row: plain TCP to the front, MPTCP from there to the back, plain TCP to the server."""

    service: Service
    middle: MiddleLeg
    server: Machine
    origin: Service

    @property
    def front(self) -> Machine:
        """Return the proxy to which clients connect."""
        return self.middle.front

    @property
    def back(self) -> Machine:
        """Return the proxy that connects to the server."""
        return self.middle.back

    @property
    def target(self) -> Target:
        """Return the front's listener on its second path, so that the loss of the first spares the client."""
        return self.with_family(4)

    def with_family(self, family: int) -> Target:
        """Return the same target over IPv4 (4) or IPv6 (6)."""
        paths = self.middle.paths
        address = paths[min(OUTER_PATH, len(paths) - 1)][0].address(family)
        if address is None:
            raise Unsupported(f"IPv{family}", "the second path has no such address", self.front.name)
        return Target(self.front, self.service, self.server, self.origin, family, to=str(address))

    def flow(self, client: Machine) -> AbstractContextManager[Flow]:
        """Connect a client with plain TCP to the server through both proxies."""
        return self.target.flow(client, protocol="tcp")


def relay_of(
    machines: Session, name: str, suits: Callable[[Service], object] = lambda _: True, what: str = ""
) -> Relay:
    """Return the relay of a name such as ``haproxy-native-to-nginx-preload``, before a plain TCP server.

    `suits` is a further condition on the first proxy's service, and `what` describes it in the error message.

    Raises:
        Unsupported: the lab has no such relay.
    """
    service = find_relay(machines.lab, name, suits, what)
    back, behind = machines.backend(service)
    server, origin = machines.backend(behind)
    return Relay(service, MiddleLeg(machines.machines[service.host], back, behind), server, origin)


def two_legs_of(machines: Session, name: str) -> tuple[Target, MiddleLeg]:
    """Return a listener with MPTCP on both legs, such as ``haproxy-native``, and its leg to the origin."""
    service = find_two_legs(machines.lab, name)
    front = machines.machines[service.host]
    server, origin = machines.backend(service)
    return Target(front, service, server, origin), MiddleLeg(front, server, origin)
