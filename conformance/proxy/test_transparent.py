"""PROXY-15: a transparent proxy on the path accepts connections in the server's place."""

import pytest

from mptcp_lab.machines.session import Machine, Session
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.find.hosts import find_router
from mptcp_lab.suite.proxy.transparent import check_transparent
from mptcp_lab.suite.requirements import ORIGIN, SERVER_BEHIND_ROUTER


@claim("PROXY-15", requires=(ORIGIN, SERVER_BEHIND_ROUTER))
@pytest.mark.parametrize("family", [4, 6], ids=["tproxy", "tproxy-ipv6"])
def test_transparent(
    client: Machine, server: Machine, machines: Session, evidence: EvidenceBox, family: int
) -> None:
    """A router's transparent socket serves what A sends to B, with a subflow of each of A's NICs."""
    router = machines.machine_of(find_router(machines.lab))
    check_transparent(client, router, server, family, evidence)
