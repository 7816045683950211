"""RELAY-8: one proxy with MPTCP on both legs."""

import pytest

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.relay.relays import MiddleLeg
from mptcp_lab.suite.relay.two_legs import SIDES, check_two_mptcp_legs
from mptcp_lab.suite.requirements import TWO_PATHS
from mptcp_lab.suite.traffic import Target


@claim("RELAY-8", requires=TWO_PATHS)
@pytest.mark.parametrize("side", SIDES, ids=[f"{side}-path-lost" for side in SIDES])
def test_loss_stays_on_its_leg(
    client: Machine, two_legs: tuple[Target, MiddleLeg], evidence: EvidenceBox, side: str
) -> None:
    """Each leg has its own subflows, and the path that one of them loses is invisible on the other."""
    target, leg = two_legs
    check_two_mptcp_legs(client, target, leg, side, evidence)
