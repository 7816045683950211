"""DIRECT-16: an address that is announced with a port comes and goes under a live connection."""

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.direct.endpoints import Ends
from mptcp_lab.suite.direct.ports import check_with_port
from mptcp_lab.suite.requirements import ORIGIN, SERVER_TWO_PATHS, TWO_PATHS


@claim("DIRECT-16", case="signal-with-port", requires=(ORIGIN, TWO_PATHS, SERVER_TWO_PATHS))
def test_port(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """An address with a port is joined there, left when it is withdrawn, and joined when it returns."""
    check_with_port(Ends(client, server), evidence)
