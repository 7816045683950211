"""DIRECT-20: a join that is refused or lost, or cannot begin, takes no other endpoint's place."""

import pytest

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.direct.endpoints import Ends
from mptcp_lab.suite.direct.refused import (
    VERDICTS,
    check_added_later,
    check_address_missing,
    check_next_joins,
)
from mptcp_lab.suite.requirements import ORIGIN, SERVER_TWO_PATHS, SPARE_NIC, TWO_PATHS

REQUIRES = (ORIGIN, TWO_PATHS, SERVER_TWO_PATHS, SPARE_NIC)


@claim("DIRECT-20", case="next-joins", requires=REQUIRES)
@pytest.mark.parametrize("verdict", VERDICTS)
def test_next_joins(client: Machine, server: Machine, evidence: EvidenceBox, verdict: str) -> None:
    """An endpoint joins although the join of the one before it was refused, or gets no answer."""
    check_next_joins(Ends(client, server), verdict, evidence)


@claim("DIRECT-20", case="added-after-refusal", requires=REQUIRES)
def test_added_later(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """An endpoint that is added after a refused join gets the connection's only place for a subflow."""
    check_added_later(Ends(client, server), evidence)


@claim("DIRECT-20", case="next-joins-address-missing", requires=(ORIGIN, TWO_PATHS, SERVER_TWO_PATHS))
def test_address_missing(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """An endpoint joins although the one before it has an address that the client does not have."""
    check_address_missing(Ends(client, server), evidence)
