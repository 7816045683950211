"""DIRECT-15: a stream from the server, or one in each direction, survives the loss of its first path."""

import pytest

from mptcp_lab.machines.session import Machine, Session
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.directions import BOTH, DOWNLOAD
from mptcp_lab.suite.expectations import direct_target
from mptcp_lab.suite.failover.live_stream import check_survives
from mptcp_lab.suite.failover.losses import LOSSES, lost_address
from mptcp_lab.suite.requirements import CABLE_OF_LOSS, FULL_MESH, ORIGIN, TWO_PATHS


@claim("DIRECT-15", requires=(ORIGIN, TWO_PATHS, FULL_MESH, CABLE_OF_LOSS))
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("direction", [DOWNLOAD, BOTH])
def test_first_path_lost(
    client: Machine, server: Machine, machines: Session, evidence: EvidenceBox, direction: str, loss: str
) -> None:
    """The first path is lost: the server's data goes on over the others, and arrives whole."""
    check_survives(
        client,
        direct_target(server),
        lambda: LOSSES[loss](machines, client, server),
        evidence,
        direction,
        lost_address(loss, client, server),
    )
