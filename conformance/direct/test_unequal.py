"""DIRECT-21: two unequal paths are worth no less than the better one alone, and near the sum of both."""

import pytest

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim, mark_fast
from mptcp_lab.suite.direct import unequal
from mptcp_lab.suite.directions import DOWNLOAD, UPLOAD
from mptcp_lab.suite.requirements import FULL_MESH, IPV6, ORIGIN, TWO_PATHS


@claim("DIRECT-21", timing=True, requires=(ORIGIN, TWO_PATHS, FULL_MESH))
@pytest.mark.parametrize("profile", unequal.PROFILES)
@pytest.mark.parametrize("direction", [UPLOAD, pytest.param(DOWNLOAD, marks=mark_fast())])
def test_goodput(
    client: Machine, server: Machine, evidence: EvidenceBox, direction: str, profile: str
) -> None:
    """A bulk transfer over paths of unequal rate or delay is as fast as over the better path alone."""
    unequal.check_goodput(client, server, profile, direction, evidence)


@claim("DIRECT-21", case="sum", timing=True, requires=(ORIGIN, TWO_PATHS, FULL_MESH))
@pytest.mark.parametrize("profile", unequal.SUM_PROFILES)
@pytest.mark.parametrize("direction", [UPLOAD, DOWNLOAD])
def test_both_links_are_used(
    client: Machine, server: Machine, evidence: EvidenceBox, direction: str, profile: str
) -> None:
    """A bulk transfer over links of unequal rate or delay gets near the sum of both."""
    unequal.check_uses_both(client, server, profile, direction, evidence)


@claim("DIRECT-21", case="disturbed", requires=(ORIGIN, TWO_PATHS, FULL_MESH))
def test_disturbed_paths(client: Machine, server: Machine) -> None:
    """Over paths that delay, lose and reorder packets, streams in both directions arrive whole."""
    unequal.check_stays_whole(client, server, 4)


@claim("DIRECT-21", case="disturbed-ipv6", requires=(ORIGIN, TWO_PATHS, FULL_MESH, IPV6))
def test_disturbed_paths_over_ipv6(client: Machine, server: Machine) -> None:
    """They do so on a connection over IPv6."""
    unequal.check_stays_whole(client, server, 6)
