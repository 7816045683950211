"""DIRECT-27: every path carries full-sized packets both ways."""

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.direct.full_size import check_full_size
from mptcp_lab.suite.requirements import ORIGIN


@claim("DIRECT-27", requires=ORIGIN)
def test_full_sized_packets(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """Bulk data comes through on each of A's paths alone, over each family, to B and back."""
    check_full_size(client, server, evidence)
