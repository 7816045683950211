"""DIRECT-7 and DIRECT-8: the live connection survives the loss of its first path."""

import pytest

from mptcp_lab.machines.session import Machine, Session
from mptcp_lab.plugin import EvidenceBox, claim, mark_fast
from mptcp_lab.suite.expectations import direct_target
from mptcp_lab.suite.failover.live_stream import check_survives
from mptcp_lab.suite.failover.losses import FIREWALL, LOSSES, ONE_WAY, lost_address
from mptcp_lab.suite.requirements import CABLE_OF_LOSS, FULL_MESH, ORIGIN, TWO_PATHS


@claim("DIRECT-7", requires=(ORIGIN, TWO_PATHS, FULL_MESH))
def test_firewall_drops_first_path(
    client: Machine, server: Machine, machines: Session, evidence: EvidenceBox
) -> None:
    """B's firewall drops A-1: the stream goes on over A-2 without a reconnect, and arrives whole."""
    check_survives(
        client, direct_target(server), lambda: LOSSES[FIREWALL](machines, client, server), evidence
    )


@claim("DIRECT-8", requires=(ORIGIN, TWO_PATHS, FULL_MESH, CABLE_OF_LOSS))
@pytest.mark.parametrize(
    "loss",
    [pytest.param(name, marks=mark_fast() if name == ONE_WAY else ()) for name in LOSSES if name != FIREWALL],
)
def test_first_path_lost(
    client: Machine, server: Machine, machines: Session, evidence: EvidenceBox, loss: str
) -> None:
    """The first path is lost in another way: the stream goes on over the others, and arrives whole."""
    check_survives(
        client,
        direct_target(server),
        lambda: LOSSES[loss](machines, client, server),
        evidence,
        address=lost_address(loss, client, server),
    )
