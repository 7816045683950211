"""PROXY-13: listeners whose kernel answers every SYN by a cookie."""

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.direct.fullmesh import check_joins_all
from mptcp_lab.suite.expectations import direct_target
from mptcp_lab.suite.proxy.cookies import check_limit_holds, cookies_in_force
from mptcp_lab.suite.proxy.legs import check_two_legs
from mptcp_lab.suite.requirements import FULL_MESH, IPV6, ORIGIN, PROXY_MESH, TWO_PATHS
from mptcp_lab.suite.traffic import Target


@claim("PROXY-13", requires=PROXY_MESH)
def test_legs(client: Machine, target: Target, evidence: EvidenceBox) -> None:
    """With SYN cookies the front leg is MPTCP with all of A's subflows, and the back leg is plain TCP."""
    with cookies_in_force(target.machine, evidence):
        check_two_legs(client, target, evidence)


@claim("PROXY-13", case="direct", requires=(ORIGIN, FULL_MESH))
def test_fullmesh(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """With SYN cookies at B, the first data joins every A NIC with every address of B that it reaches."""
    with cookies_in_force(server, evidence):
        check_joins_all(client, server, 4, evidence)


@claim("PROXY-13", case="direct-ipv6", requires=(ORIGIN, FULL_MESH, IPV6))
def test_fullmesh_over_ipv6(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """With SYN cookies at B, the same holds over IPv6."""
    with cookies_in_force(server, evidence):
        check_joins_all(client, server, 6, evidence)


@claim("PROXY-13", case="limit", requires=(ORIGIN, TWO_PATHS, FULL_MESH))
def test_limit(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """With SYN cookies and a limit of one further subflow, B accepts one of A's joins."""
    with cookies_in_force(server, evidence):
        check_limit_holds(client, direct_target(server), evidence)
