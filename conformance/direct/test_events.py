"""DIRECT-23: the path manager's netlink events report what happens to a connection."""

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.direct import events
from mptcp_lab.suite.requirements import FULL_MESH, IPV6, ORIGIN, TWO_PATHS


@claim("DIRECT-23", case="life", requires=(ORIGIN, TWO_PATHS, FULL_MESH))
def test_life(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """From its beginning to its end, each event of a connection comes once, in its place, with its fields."""
    events.check_life(client, server, 4, evidence)


@claim("DIRECT-23", case="life-ipv6", requires=(ORIGIN, TWO_PATHS, FULL_MESH, IPV6))
def test_life_over_ipv6(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """The same over IPv6."""
    events.check_life(client, server, 6, evidence)


@claim("DIRECT-23", case="dead-path", requires=(ORIGIN, TWO_PATHS, FULL_MESH))
def test_dead_path(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """Where a path dies, both ends report the end of its subflow once, with the error of a timeout."""
    events.check_dead_path(client, server, evidence)


@claim("DIRECT-23", case="C-flag", requires=(ORIGIN, TWO_PATHS, FULL_MESH))
def test_c_flag(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """The client's events show that the server forbids joins to its first address."""
    events.check_c_flag(client, server, evidence)


@claim("DIRECT-23", case="listener", requires=ORIGIN)
def test_listener(server: Machine, evidence: EvidenceBox) -> None:
    """A listener's beginning and end are reported once each."""
    events.check_listener(server, evidence)
