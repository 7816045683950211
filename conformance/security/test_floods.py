"""SECURITY-6: floods of SYNs whose handshakes are never completed."""

from itertools import cycle

import pytest

from mptcp_lab.inventory.engines import PROXIES
from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim, mark_fast
from mptcp_lab.suite.expectations import direct_target
from mptcp_lab.suite.requirements import FULL_MESH, ORIGIN, PROXY_MESH, TWO_PATHS
from mptcp_lab.suite.security import floods
from mptcp_lab.suite.traffic import Target


@claim("SECURITY-6", requires=(ORIGIN, FULL_MESH, TWO_PATHS))
@pytest.mark.parametrize(
    "flood",
    # Connections that are half open take longer to be given up than joins.
    [pytest.param(flood, marks=mark_fast() if flood == "MP_JOIN" else ()) for flood in floods.FLOODS],
)
def test_flood(
    client: Machine, server: Machine, attacker: Machine, evidence: EvidenceBox, flood: str
) -> None:
    """During a flood clients are served with MPTCP and joins come up; afterwards no socket remains."""
    floods.check_flood(client, attacker, direct_target(server), flood, evidence)


@claim("SECURITY-6", requires=(PROXY_MESH, TWO_PATHS))
@pytest.mark.parametrize(
    ("target", "flood"),
    [(f"{engine}-native", flood) for engine, flood in zip(PROXIES, cycle(floods.FLOODS), strict=False)],
    indirect=["target"],
)
def test_flood_of_proxy(
    client: Machine, target: Target, attacker: Machine, evidence: EvidenceBox, flood: str
) -> None:
    """The same for a flood of a proxy, whose clients are served by the server behind it."""
    floods.check_flood(client, attacker, target, flood, evidence)
