"""RELAY-5: what one plain TCP connection gains from several paths between two proxies."""

import pytest

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.find.relays import ENGINES_APART
from mptcp_lab.suite.relay.goodput import (
    BYTES_PER_PATH,
    LINK_MBIT,
    goodput,
    goodput_over_one_path,
    limited_paths,
)
from mptcp_lab.suite.relay.relays import Relay
from mptcp_lab.suite.requirements import RELAY_PATHS


@claim("RELAY-5", requires=RELAY_PATHS)
@pytest.mark.parametrize("relay", ENGINES_APART, indirect=True)
def test_goodput(client: Machine, relay: Relay, evidence: EvidenceBox) -> None:
    """Measure one connection over all paths between the proxies, and over one of them, in the same run."""
    paths = len(relay.middle.expected_matrix().present)
    with limited_paths(relay.front):
        alone = goodput_over_one_path(client, relay, BYTES_PER_PATH)
        together = goodput(client, relay, paths * BYTES_PER_PATH)
    evidence.figure("paths between the proxies", paths)
    evidence.figure("goodput, of the sum of the links", together / (paths * LINK_MBIT))
    evidence.figure("goodput, of one path", together / alone)
