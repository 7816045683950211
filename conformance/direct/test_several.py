"""DIRECT-16 and DIRECT-20: several endpoints at once, at both ends and over both IP versions."""

import pytest

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.direct.endpoints import Ends
from mptcp_lab.suite.direct.laminar import check_laminar
from mptcp_lab.suite.direct.later_mesh import check_later_mesh
from mptcp_lab.suite.direct.other_family import check_unused
from mptcp_lab.suite.direct.several import check_several, check_several_ipv6
from mptcp_lab.suite.requirements import IPV6, ORIGIN, SERVER_TWO_PATHS, SPARE_NIC, TWO_PATHS

REQUIRES = (ORIGIN, TWO_PATHS, SERVER_TWO_PATHS)


@claim("DIRECT-16", case="several", requires=(*REQUIRES, SPARE_NIC))
def test_several(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """Two endpoints of each end are added at once, and deleted one by one; each has its subflow."""
    check_several(Ends(client, server), evidence)


@claim("DIRECT-16", case="several-ipv6", requires=(*REQUIRES, IPV6))
def test_several_over_ipv6(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """The same over IPv6, with an announced IPv4 address; a flush at the server ends what it announced."""
    check_several_ipv6(Ends(client, server), evidence)


@claim("DIRECT-20", case="fullmesh-later", requires=(*REQUIRES, SPARE_NIC))
def test_fullmesh_later(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """Two full-mesh endpoints, added at once, join every address, and one that is announced afterwards."""
    check_later_mesh(Ends(client, server), evidence)


@claim("DIRECT-20", case="fullmesh-later-limited", requires=(*REQUIRES, SPARE_NIC))
def test_fullmesh_later_limited(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """At the limit of a live connection, only some subflows of later full-mesh endpoints come up."""
    check_later_mesh(Ends(client, server), evidence, further=2)


@claim("DIRECT-20", case="unused-ipv6", requires=(*REQUIRES, IPV6))
def test_unused_over_ipv6(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """A client that accepts no announcement answers one over IPv6, and joins nothing."""
    check_unused(Ends(client, server), evidence)


@claim("DIRECT-20", case="laminar-endpoints", requires=(*REQUIRES, SPARE_NIC))
@pytest.mark.parametrize("number", [1, 2])
def test_laminar(client: Machine, server: Machine, evidence: EvidenceBox, number: int) -> None:
    """Each laminar endpoint joins one of two announced addresses."""
    check_laminar(Ends(client, server), number, evidence)
