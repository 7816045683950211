"""DIRECT-16 and R61: an address that is announced with a port, and comes and goes under a connection."""

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.direct.endpoints import Ends
from mptcp_lab.suite.direct.ports import check_port_over_ipv6, check_several_ports, check_with_port
from mptcp_lab.suite.requirements import IPV6, ORIGIN, SERVER_TWO_PATHS, SPARE_NIC, TWO_PATHS


@claim("DIRECT-16", case="signal-with-port", requires=(ORIGIN, TWO_PATHS, SERVER_TWO_PATHS))
def test_port(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """An address with a port is joined there, left when it is withdrawn, and joined when it returns."""
    check_with_port(Ends(client, server), evidence)


@claim("DIRECT-16", case="several-ports", requires=(ORIGIN, TWO_PATHS, SERVER_TWO_PATHS, SPARE_NIC))
def test_several_ports(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """Two addresses are joined at one port, and at two ports as backups when they are announced again."""
    check_several_ports(Ends(client, server), evidence)


@claim("R61", case="joined", requires=(ORIGIN, TWO_PATHS, SERVER_TWO_PATHS, IPV6))
def test_port_over_ipv6(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """Where there is room for it, an IPv6 address with a port is announced, echoed and joined."""
    check_port_over_ipv6(Ends(client, server), evidence)
