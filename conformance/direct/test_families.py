"""DIRECT-13: an IPv4 socket has no IPv6 subflow, and link-local addresses harm no connection."""

import pytest

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.direct.endpoints import Ends
from mptcp_lab.suite.direct.families import check_ipv4_only, check_ipv6_endpoints, check_link_local
from mptcp_lab.suite.direct.other_family import check_families_apart, check_plain_peer
from mptcp_lab.suite.requirements import IPV6, ORIGIN, SERVER_TWO_PATHS, TWO_PATHS

REQUIRES = (ORIGIN, TWO_PATHS, SERVER_TWO_PATHS, IPV6)
#: By the end without MPTCP, the protocols of the client's socket and the server's listener.
PLAIN = {"client": ("tcp", "mptcp"), "server": ("mptcp", "tcp")}


@claim("DIRECT-13", case="ipv4-socket", requires=REQUIRES)
def test_ipv4_only(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """A connection over IPv4 has no IPv6 subflow, whatever B announces and whatever endpoints A has."""
    check_ipv4_only(Ends(client, server), evidence)


@claim("DIRECT-13", case="endpoints", requires=REQUIRES)
def test_ipv6_endpoints(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """IPv6 endpoints of both ends are deleted one by one, and join again when they are added together."""
    check_ipv6_endpoints(Ends(client, server), evidence)


@claim("DIRECT-13", requires=REQUIRES)
@pytest.mark.parametrize("laminar", [False, True], ids=["link-local", "link-local-laminar"])
def test_link_local(client: Machine, server: Machine, evidence: EvidenceBox, laminar: bool) -> None:
    """An announced link-local address is joined from a laminar endpoint, and harms nothing without one."""
    check_link_local(client, server, laminar, evidence)


@claim("DIRECT-13", case="families-apart", requires=REQUIRES)
def test_families_apart(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """On a connection over IPv6 an IPv4 endpoint joins no IPv6 address, and an IPv6 one no IPv4 address."""
    check_families_apart(Ends(client, server), evidence)


@claim("DIRECT-13", case="plain", requires=(ORIGIN, IPV6))
@pytest.mark.parametrize("end", PLAIN)
def test_plain_peer(client: Machine, server: Machine, end: str) -> None:
    """Over IPv6 a client falls back to a server without MPTCP, and a server takes a client without it."""
    check_plain_peer(client, server, PLAIN[end])
