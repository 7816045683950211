"""DIRECT-20: flags of endpoints together, changed at run time, and announcements of both ends at once."""

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.direct import flags
from mptcp_lab.suite.direct.endpoints import Ends
from mptcp_lab.suite.requirements import ORIGIN, SERVER_TWO_PATHS, TWO_PATHS

REQUIRES = (ORIGIN, TWO_PATHS, SERVER_TWO_PATHS)


@claim("DIRECT-20", case="both-flags", requires=REQUIRES)
def test_both_flags(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """An endpoint with both flags joins and is announced; when it is deleted, both are taken back."""
    flags.check_both_flags(Ends(client, server), evidence)


@claim("DIRECT-20", case="both-flags-without-room", requires=REQUIRES)
def test_both_flags_without_room(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """A server without room for subflows announces and withdraws an endpoint with both flags."""
    flags.check_both_flags_without_room(Ends(client, server), evidence)


@claim("DIRECT-20", case="announced-by-both", requires=REQUIRES)
def test_announced_by_both(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """Both ends announce an address at once; each announcement is answered, and the client joins."""
    flags.check_announced_by_both(Ends(client, server), evidence)


@claim("DIRECT-20", case="fullmesh-set", requires=REQUIRES)
def test_fullmesh_set(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """An endpoint joins every address when it becomes fullmesh, and leaves them when it is no longer."""
    flags.check_fullmesh_set(Ends(client, server), evidence)


@claim("DIRECT-20", case="some-unreachable", requires=REQUIRES)
def test_some_unreachable(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """The reachable one of B's announced addresses is joined, and the others can be withdrawn."""
    flags.check_some_unreachable(Ends(client, server), evidence)
