"""RELAY-3: neither client nor server notices that a path between the proxies is lost."""

import pytest

from mptcp_lab.machines.session import Machine, Session
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.directions import DIRECTIONS
from mptcp_lab.suite.failover.losses import LOSSES, lost_address
from mptcp_lab.suite.find.relays import RELAYS
from mptcp_lab.suite.relay.failover import check_relay_survives
from mptcp_lab.suite.relay.relays import Relay
from mptcp_lab.suite.requirements import CABLE_OF_RELAYS_LOSS, RELAY_PATHS

#: Each loss once, with relays and directions in turn: no loss depends on them.
CASES = [
    (RELAYS[number % len(RELAYS)], DIRECTIONS[number % len(DIRECTIONS)], loss)
    for number, loss in enumerate(LOSSES)
]


@claim("RELAY-3", requires=(RELAY_PATHS, CABLE_OF_RELAYS_LOSS))
@pytest.mark.parametrize(("relay", "direction", "loss"), CASES, indirect=["relay"])
def test_path_lost(
    client: Machine, relay: Relay, machines: Session, evidence: EvidenceBox, direction: str, loss: str
) -> None:
    """The first path between the proxies is lost: the stream arrives whole, the outer connections stay."""
    fault = LOSSES[loss]
    check_relay_survives(
        client,
        relay,
        direction,
        lambda: fault(machines, relay.front, relay.back),
        lost_address(loss, relay.front, relay.back, relay.middle.family),
        evidence,
    )
