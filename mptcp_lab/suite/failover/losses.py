"""Define the ways in which a stream's first path can be lost (DIRECT-7, DIRECT-8, DIRECT-12, DIRECT-15)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from mptcp_lab.machines.session import Machine, Session

Loss = Callable[[Session, Machine, Machine], AbstractContextManager[object]]

#: B's firewall drops A-1: the loss that the founding document tested.
FIREWALL = "dropped-at-B"
#: B's first link is lost: A-1 still reaches B's other addresses, through the router.
LINK_OF_B, CABLE_OF_B = "link-down-at-B", "cable-out-at-B"
#: Nothing that B sends over the path arrives, and all that A sends does.
ONE_WAY = "only-from-B-lost"

#: By name, the faults that take the first path away until they are lifted; called with session, A and B.
LOSSES: dict[str, Loss] = {
    FIREWALL: lambda _, client, server: server.probe.fault("drop", source=client.address(0)),
    "dropped-at-A": lambda _, client, __: client.probe.fault(
        "drop", direction="both", destination=client.address(0)
    ),
    "reset-at-B": lambda _, client, server: server.probe.fault("reject", source=client.address(0)),
    "link-down-at-A": lambda _, client, __: client.probe.fault("link_down", device=client.paths[0].device),
    LINK_OF_B: lambda _, __, server: server.probe.fault("link_down", device=server.paths[0].device),
    "cable-out-at-A": lambda machines, client, _: machines.cable_out(client, client.paths[0]),
    CABLE_OF_B: lambda machines, _, server: machines.cable_out(server, server.paths[0]),
    "address-removed": lambda _, client, __: client.probe.fault(
        "address_remove", device=client.paths[0].device, address=client.address(0)
    ),
    "endpoint-removed": lambda _, client, __: client.probe.fault(
        "endpoint_remove", address=client.address(0)
    ),
    "only-from-A-lost": lambda _, client, __: client.probe.fault(
        "drop", direction="out", source=client.address(0)
    ),
    ONE_WAY: lambda _, client, __: client.probe.fault("drop", direction="in", destination=client.address(0)),
}


def lost_address(loss: str, client: Machine, server: Machine, family: int = 4) -> str:
    """Return the address whose subflows can carry nothing under a loss."""
    return (server if loss in (LINK_OF_B, CABLE_OF_B) else client).address(0, family)
