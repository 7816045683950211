"""PROXY-1, -5, -7 and -16: MPTCP in front, plain TCP behind, a path that is lost, and a plain TCP client."""

import pytest

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.directions import BOTH, DOWNLOAD, UPLOAD
from mptcp_lab.suite.proxy.legs import check_first_path_lost, check_two_legs
from mptcp_lab.suite.requirements import PROXY_MESH, TARGET_OVER_IPV6, TWO_PATHS
from mptcp_lab.suite.traffic import Target, is_mptcp


@claim("PROXY-1", requires=PROXY_MESH)
def test_legs(client: Machine, target: Target, evidence: EvidenceBox) -> None:
    """The front leg is MPTCP with all of A's subflows, the back leg is plain TCP."""
    check_two_legs(client, target, evidence)


@claim("PROXY-1", case="ipv6", requires=(TARGET_OVER_IPV6, PROXY_MESH))
def test_legs_over_ipv6(client: Machine, target: Target, evidence: EvidenceBox) -> None:
    """Over IPv6 too, the front leg is MPTCP with all of A's subflows, and the back leg is plain TCP."""
    check_two_legs(client, target.with_family(6), evidence)


@claim("PROXY-5", requires=(TWO_PATHS, PROXY_MESH))
def test_path_lost(client: Machine, target: Target, evidence: EvidenceBox) -> None:
    """A's first path is lost: the connection through the proxy goes on, and B is not affected."""
    check_first_path_lost(client, target, UPLOAD, evidence)


@claim("PROXY-16", case="path-lost", requires=(TWO_PATHS, PROXY_MESH))
@pytest.mark.parametrize("direction", [DOWNLOAD, BOTH])
def test_path_lost_while_b_sends(
    client: Machine, target: Target, evidence: EvidenceBox, direction: str
) -> None:
    """A's first path is lost while B sends, or both do: the connection goes on, and B is not affected."""
    check_first_path_lost(client, target, direction, evidence)


@claim("PROXY-7")
def test_plain_client(client: Machine, target: Target) -> None:
    """A plain TCP client is served by the same listener."""
    with target.flow(client, protocol="tcp") as data:
        ended = data.upload(65536)
        assert not is_mptcp(data.stream), "a plain TCP connection became MPTCP"
    assert ended.intact, ended.difference
    assert ended.got.bytes_received == 65536, "B got more or fewer octets than A sent"
