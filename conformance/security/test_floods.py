"""SECURITY-6: floods of SYNs that nobody completes."""

import pytest

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.expectations import direct_flow, direct_target, expected_pairs, wait_for_joins
from mptcp_lab.suite.packets import tcp_capture
from mptcp_lab.suite.proxy.remains import nothing_remains
from mptcp_lab.suite.requirements import FULL_MESH, ORIGIN, TWO_PATHS
from mptcp_lab.suite.security import floods
from mptcp_lab.suite.security.harm import damage_of
from mptcp_lab.suite.security.joins import join_again


@claim("SECURITY-6", requires=(ORIGIN, FULL_MESH, TWO_PATHS))
@pytest.mark.parametrize("flood", floods.FLOODS)
def test_flood(
    client: Machine, server: Machine, attacker: Machine, evidence: EvidenceBox, flood: str
) -> None:
    """During a flood clients are served with MPTCP and joins come up; afterwards no socket remains."""
    target, expected = direct_target(server), expected_pairs(client, server)
    with (
        nothing_remains((server,), evidence),
        tcp_capture(client, target.port) as capture,
        direct_flow(client, server) as data,
        floods.flooder(attacker, target, evidence) as forger,
    ):
        transfer = data.start()
        wait_for_joins(data, expected)
        floods.send_flood(forger, target, floods.FLOODS[flood], capture.stop(), evidence)
        floods.check_serves_many(client, target, evidence)
        with floods.giving_up(target, evidence):
            joined = join_again(client, data, expected)
            damage = damage_of(data, transfer)
    joined.check_exact(4)
    assert not damage, damage
