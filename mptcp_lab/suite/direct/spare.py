"""The client's spare NIC: down until a check brings it up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mptcp_lab.errors import Unsupported
from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.inventory.model import Nic
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import eventually
from mptcp_lab.suite.deviations import NO_ROOM, keep, known
from mptcp_lab.suite.expectations import announcing_only, expected_pairs
from mptcp_lab.suite.matrix import Matrix
from mptcp_lab.suite.requirements import find_spare_nic

#: A daemon makes the endpoint of a new NIC within this time.
NOTICED_WITHIN_SECONDS = 20.0


def spare_nic(client: Machine) -> Nic:
    """Return the first NIC on a path segment that the inventory keeps down."""
    return find_spare_nic(client.lab, client.host)


def path_manager(client: Machine) -> str:
    """Return who makes the endpoints: NetworkManager, a mptcpd that runs, or the kernel (the lab's list)."""
    if client.host.variables.get("lab_mptcp_owner") == "networkmanager":
        return "networkmanager"
    active = client.probe.run(["systemctl", "is-active", "--quiet", "mptcp.service"]).returncode == 0
    return "mptcpd" if active else "kernel"


@contextmanager
def appears(client: Machine, nic: Nic, owner: str) -> Iterator[None]:
    """Bring a NIC up, give it its address, and add its endpoint where no daemon does.

    Raises Unsupported for an owner of the path manager that is not the client's.
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
    """Leave room for a new NIC's subflows in the connections to come; yield the subflows to expect of them.

    Nothing needs to be done, except where the client's kernel is known to take the room itself: there the
    server announces only its address on the NIC's segment.
    """
    matrix = expected_pairs(client, server)
    correction = known(NO_ROOM, client.probe.kernel)
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
        yield matrix.towards({server.address(), announced})
