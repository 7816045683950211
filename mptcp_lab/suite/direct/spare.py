"""Use the client's spare NIC, which is down until a check brings it up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mptcp_lab.errors import Unsupported
from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.inventory.model import Nic
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import eventually
from mptcp_lab.suite.deviations import NO_ROOM, find_correction, keep
from mptcp_lab.suite.expectations import announcing_only, expected_pairs
from mptcp_lab.suite.find.hosts import find_spare_nic
from mptcp_lab.suite.matrix import Matrix

#: How long a daemon may take to make the endpoint of a new NIC.
NOTICED_WITHIN_SECONDS = 20.0


def spare_nic(client: Machine) -> Nic:
    """Return the first NIC on a path segment that the inventory keeps down, or raise `Unsupported`."""
    return find_spare_nic(client.lab, client.host)


def path_manager(client: Machine) -> str:
    """Return which program makes the endpoints: NetworkManager, a running mptcpd, or the kernel.

    If it is the kernel, its endpoints are those that the lab lists.
    """
    if client.host.variables.get("lab_mptcp_owner") == "networkmanager":
        return "networkmanager"
    active = client.probe.run(["systemctl", "is-active", "--quiet", "mptcp.service"]).returncode == 0
    return "mptcpd" if active else "kernel"


@contextmanager
def appears(client: Machine, nic: Nic, owner: str) -> Iterator[None]:
    """Bring a NIC up, give it its address, and add its endpoint, unless a daemon adds it.

    All of this is undone at the end of the block.

    Raises:
        Unsupported: the client's path manager is not `owner`.
    """
    if path_manager(client) != owner:
        raise Unsupported(owner, f"the path manager here is {path_manager(client)}", client.name)
    address = str(nic.address())
    with client.probe.fault("link_up", device=nic.device, address=address):
        if owner == "mptcpd":
            eventually(
                lambda: [endpoint.address for endpoint in client.probe.endpoints()],
                until=lambda addresses: address in addresses,
                within=NOTICED_WITHIN_SECONDS,
                what=f"an endpoint of {owner} for {nic.device}",
            )
            yield
        else:
            flags = ["subflow", "fullmesh"]
            with client.probe.fault("endpoint_add", address=address, device=nic.device, flags=flags):
                yield


@contextmanager
def room_for(client: Machine, server: Machine, nic: Nic, evidence: EvidenceBox) -> Iterator[Matrix]:
    """Leave room for a new NIC's subflows in the connections to come; yield the subflows to expect on them.

    Nothing has to be done, unless a known deviation says that the client's kernel uses up the room by itself:
    then the server announces only its address on the NIC's segment.
    """
    matrix = expected_pairs(client, server)
    correction = find_correction(NO_ROOM, client.probe.kernel)
    if correction is None:
        yield matrix
        return
    neighbour = server.host.nic_on(nic.segment)
    if neighbour is None:
        raise Unsupported("new NIC", f"{server.name} has no address on {nic.segment}", client.name)
    keep(correction, evidence)
    evidence.figure("addresses announced, for a known deviation", 1)
    announced = str(neighbour.address())
    with announcing_only(server, {announced}):
        yield matrix.pairs_towards({server.address(), announced})
