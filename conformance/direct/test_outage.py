"""DIRECT-9: every path is cut for a while, then one comes back."""

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim, mark_fast
from mptcp_lab.suite.direct.outage import check_resumes
from mptcp_lab.suite.directions import DOWNLOAD, UPLOAD
from mptcp_lab.suite.requirements import FULL_MESH, ORIGIN


@claim("DIRECT-9", requires=(ORIGIN, FULL_MESH))
def test_all_paths_cut(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """All paths are cut and one is restored: the stream resumes over it, and nothing is lost."""
    check_resumes(client, server, UPLOAD, evidence)


@mark_fast()
@claim("DIRECT-9", case="download", requires=(ORIGIN, FULL_MESH))
def test_all_paths_cut_while_b_sends(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """The same for a stream from B to A."""
    check_resumes(client, server, DOWNLOAD, evidence)
