"""Derive what a check expects of two machines from the inventory and their kernels' current settings."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace

from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.inventory.model import Host, Service
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import NeverHappened, eventually
from mptcp_lab.suite.examination import examine
from mptcp_lab.suite.find.hosts import find_origin, require_mesh
from mptcp_lab.suite.matrix import KERNEL_LIMIT, Matrix, Room, expected_matrix
from mptcp_lab.suite.missing.causes import causes, describe_causes
from mptcp_lab.suite.missing.rules import LEFT_OUT
from mptcp_lab.suite.sockets import AddressPair
from mptcp_lab.suite.traffic import Flow, Target

JOINED_WITHIN_SECONDS = 10.0


def expected_pairs(client: Machine, server: Machine, family: int = 4) -> Matrix:
    """Return the subflow matrix between two machines, with the ARP and rp_filter settings of their kernels.

    Raises:
        Unsupported: the inventory gives them endpoints that do not make a full mesh.
    """
    require_mesh(client.lab, client.host, {"subflow", "fullmesh"})
    require_mesh(server.lab, server.host, {"signal"})
    return matrix_between(client, server, family)


def matrix_between(client: Machine, server: Machine, family: int = 4) -> Matrix:
    """Return which subflows can come up between two machines, whatever their endpoints are."""
    arp_ignore, rp_filter = _by_device(server, "arp_ignore"), _by_device(client, "rp_filter")
    room = room_between(client.host, server.host)
    return expected_matrix(client.lab, client.host, server.host, family, arp_ignore, rp_filter, room)


def reachable_pairs(client: Machine, server: Machine) -> set[AddressPair]:
    """Return the pairs of IPv4 addresses between which subflows can come up, whatever the endpoints."""
    arp_ignore, rp_filter = _by_device(server, "arp_ignore"), _by_device(client, "rp_filter")
    return expected_matrix(client.lab, client.host, server.host, 4, arp_ignore, rp_filter).possible


def room_between(client: Host, server: Host) -> Room:
    """Return the room for subflows that the inventory's limits of both hosts leave."""

    def limit(host: Host, name: str) -> int:
        return min(KERNEL_LIMIT, int(host.variables.get(name, KERNEL_LIMIT)))

    subflows = min(limit(host, "mptcp_limit_subflows") for host in (client, server))
    return Room(subflows, limit(client, "mptcp_limit_add_addr_accepted"))


def _by_device(machine: Machine, setting: str) -> dict[str, int]:
    """Return the effective value of a setting below net.ipv4.conf for each of a machine's NICs."""
    sysctls = machine.probe.sysctls()

    def effective(device: str) -> int:
        values = (sysctls.get(f"net.ipv4.conf.{name}.{setting}", "0") for name in ("all", device))
        return max(int(value) for value in values)

    return {nic.device: effective(nic.device) for nic in machine.host.nics}


class SubflowsMissing(NeverHappened):
    """Expected subflows did not come up; the message lists them and the cause of each."""


@dataclass(frozen=True)
class Joined:
    """The subflows of a connection that both ends have established, and the matrix expected of it.

    ``matrix`` does not expect the pairs for which the connection turned out to have no room.
    """

    pairs: set[AddressPair]
    matrix: Matrix

    def __len__(self) -> int:
        return len(self.pairs)

    def of_family(self, family: int) -> set[AddressPair]:
        """Return the subflows over IPv4 (4) or IPv6 (6)."""
        return {pair for pair in self.pairs if (":" in pair[0]) == (family == 6)}

    def check_exact(self, family: int) -> None:
        """Check that over a family only expected subflows came up, or left-out ones that may replace them."""
        more = self.of_family(family) - self.matrix.possible
        assert not more, f"subflows that are not in the expected matrix: {sorted(more)}"

    def keep(self, evidence: EvidenceBox) -> None:
        """Keep as evidence the matrix, the number of subflows, and how many the limit left out."""
        evidence.subflows(self.matrix.rows())
        evidence.figure("subflows", len(self.pairs))
        if self.matrix.left_out:
            room, left_out = self.matrix.room.subflows, len(self.matrix.left_out)
            evidence.figure(f"left out by the limit of {room} joins", left_out)


def wait_for_joins(flow: Flow, matrix: Matrix) -> Joined:
    """Wait until both ends have established every expected subflow of a stream; return all that they have.

    A pair that the connection's limits kept out is no error: the returned matrix has it as left out.

    Raises:
        SubflowsMissing: other subflows did not come up; the message has the cause of each.
    """
    try:
        pairs = eventually(
            flow.pairs, until=lambda pairs: pairs >= matrix.addresses, within=JOINED_WITHIN_SECONDS
        )
        return Joined(pairs, matrix)
    except NeverHappened:
        pairs = flow.pairs()
    readings = examine(flow, matrix, matrix.addresses - pairs)
    found = causes(readings)
    unexplained = {cause: each for cause, each in found.items() if cause.cause != LEFT_OUT}
    if unexplained or not matrix.left_out:
        raise SubflowsMissing(describe_causes(found, len(matrix.present)))
    return Joined(pairs, _leave_out(matrix, matrix.addresses - pairs))


def _leave_out(matrix: Matrix, pairs: set[AddressPair]) -> Matrix:
    """Return the matrix with these pairs moved to ``left_out``, since other pairs have taken their places."""
    late = {pair: how for pair, how in matrix.present.items() if (str(pair.local), str(pair.remote)) in pairs}
    why = "no room, others were first"
    return replace(
        matrix,
        present={pair: how for pair, how in matrix.present.items() if pair not in late},
        left_out={**matrix.left_out, **{pair: f"{how}, but {why}" for pair, how in late.items()}},
    )


def origin_of(machine: Machine) -> Service:
    """Return a machine's origin service: one with MPTCP if the machine speaks it, else one without."""
    return find_origin(machine.host)


def direct_target(server: Machine, family: int = 4) -> Target:
    """Return the server's own origin on its first path, over IPv4 (4) or IPv6 (6)."""
    return Target(server, origin_of(server), server, origin_of(server), family)


def direct_flow(client: Machine, server: Machine, family: int = 4) -> AbstractContextManager[Flow]:
    """Connect a client to the server's own origin, on its first path, over IPv4 (4) or IPv6 (6)."""
    return direct_target(server, family).flow(client)


def subflows_to(client: Machine, target: Target) -> Matrix:
    """Return the subflows to expect on a client's connection to a target."""
    return target.subflows or expected_pairs(client, target.machine, target.family)


def announcing_nothing(server: Machine) -> AbstractContextManager[None]:
    """Remove the endpoints that a server announces, and restore them at the end of the block."""
    return announcing_only(server, ())


@contextmanager
def announcing_only(server: Machine, addresses: Collection[str]) -> Iterator[None]:
    """Remove the endpoints that a server announces in the block, except those with one of these addresses."""
    with ExitStack() as stack:
        for endpoint in server.probe.endpoints():
            if "signal" in endpoint.flags and endpoint.address not in addresses:
                stack.enter_context(server.probe.fault("endpoint_remove", address=endpoint.address))
        yield
