"""What a check expects of two machines, from the inventory and the settings that their kernels have now."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from mptcp_lab.errors import Unsupported
from mptcp_lab.inventory.model import Service
from mptcp_lab.probe import eventually
from mptcp_lab.suite.matrix import Matrix, expected
from mptcp_lab.suite.session import Machine
from mptcp_lab.suite.traffic import Flow, flow

JOINED_WITHIN_SECONDS = 10.0


def expected_pairs(client: Machine, server: Machine, family: int = 4) -> Matrix:
    """Return the subflow matrix between two machines; what their kernels decide is read from them.

    `Unsupported` where the inventory gives them endpoints that do not make a full mesh.
    """
    _meshes(client, {"subflow", "fullmesh"})
    _meshes(server, {"signal"})
    arp_ignore, rp_filter = _by_device(server, "arp_ignore"), _by_device(client, "rp_filter")
    return expected(client.lab, client.host, server.host, family, arp_ignore, rp_filter)


def _meshes(machine: Machine, needed: set[str]) -> None:
    for nic in machine.paths:
        if missing := needed - set(nic.endpoint):
            what = (
                f"the inventory gives {nic.device} {' '.join(nic.endpoint)}, without {' and '.join(missing)}"
            )
            raise Unsupported("a full mesh", what, machine.name)


def _by_device(machine: Machine, setting: str) -> dict[str, int]:
    """Return the effective value of a setting below net.ipv4.conf for each of a machine's NICs."""
    sysctls = machine.probe.sysctls()

    def effective(device: str) -> int:
        values = (sysctls.get(f"net.ipv4.conf.{name}.{setting}", "0") for name in ("all", device))
        return max(int(value) for value in values)

    return {nic.device: effective(nic.device) for nic in machine.host.nics}


def all_joined(flow: Flow, matrix: Matrix) -> set[tuple[str, str]]:
    """Wait until every expected subflow of a stream is established; return all that are."""
    return eventually(
        flow.pairs, until=matrix.addresses.__le__, within=JOINED_WITHIN_SECONDS, what="the expected subflows"
    )


def origin_of(machine: Machine) -> Service:
    """Return the origin service of a machine that fits it: MPTCP where the machine speaks it."""
    wanted = "native" if machine.host.mptcp else "off"
    for service in machine.host.services:
        if service.engine == "origin" and service.mptcp == wanted:
            return service
    raise Unsupported("origin", f"the inventory gives {machine.name} no origin service with mptcp: {wanted}")


def direct_flow(client: Machine, server: Machine, family: int = 4) -> AbstractContextManager[Flow]:
    """Connect a client to the server's own origin, on its first path, over IPv4 (4) or IPv6 (6)."""
    origin = origin_of(server)
    return flow(client, server.address(0, family), origin.port, server, origin)


@contextmanager
def announcing_nothing(server: Machine) -> Iterator[None]:
    """Take away the endpoints that a server announces."""
    with ExitStack() as stack:
        for endpoint in server.probe.endpoints():
            if "signal" in endpoint.flags:
                stack.enter_context(server.probe.fault("endpoint_remove", address=endpoint.address))
        yield
