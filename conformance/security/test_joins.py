"""SECURITY-1 and SECURITY-2: joins by someone who does not have, and who does have, a connection's keys."""

import pytest

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.expectations import direct_flow, direct_target, expected_pairs, wait_for_joins
from mptcp_lab.suite.packets import tcp_capture
from mptcp_lab.suite.requirements import FULL_MESH, ORIGIN, TWO_PATHS
from mptcp_lab.suite.security import joins
from mptcp_lab.suite.security.forging import forging_packets
from mptcp_lab.suite.security.harm import damage_of
from mptcp_lab.suite.security.overhearing import overheard_keys


@claim("SECURITY-1", requires=(ORIGIN, FULL_MESH, TWO_PATHS))
def test_join_without_keys(
    client: Machine, server: Machine, attacker: Machine, evidence: EvidenceBox
) -> None:
    """Guessed tokens and replayed joins bring nothing in, and the next legitimate join comes up."""
    target, expected = direct_target(server), expected_pairs(client, server)
    with (
        tcp_capture(client, target.port) as capture,
        direct_flow(client, server) as data,
        forging_packets(attacker, 0, evidence) as forger,
    ):
        transfer = data.start()
        wait_for_joins(data, expected)
        before, overheard = server.probe.counters(), capture.stop()
        for attack in joins.WITHOUT_KEYS:
            attack(forger, target, overheard)
        counted = server.probe.counters().delta(before)
        joined = joins.join_again(client, data, expected)
        damage = damage_of(data, transfer)
    evidence.figure("forged packets", forger.sent)
    for counter, times in joins.REFUSED.items():
        assert counted.mptcp(counter) == times, f"{server.name} counted {counted.mptcp(counter)} {counter}"
    joined.check_exact(4)
    assert not damage, damage


@claim("SECURITY-2", requires=(ORIGIN, FULL_MESH))
@pytest.mark.parametrize("setting", joins.SETTINGS)
def test_join_with_keys(
    client: Machine, server: Machine, attacker: Machine, evidence: EvidenceBox, setting: str
) -> None:
    """Someone with the keys joins and changes the stream, unless a setting refuses the join."""
    narrows, refuses = joins.SETTINGS[setting]
    with (
        narrows(client, server, attacker),
        tcp_capture(client, direct_target(server).port) as capture,
        direct_flow(client, server) as data,
    ):
        transfer = data.start(interval=0.004)
        wait_for_joins(data, joins.joins_under(setting, client, server))
        with joins.holding_keys(attacker, overheard_keys(capture.stop()), evidence) as peer:
            joined = joins.try_to_join(peer, direct_target(server), within=1.0 if refuses else 5.0)
            if joined:
                joins.inject(*joined)
            damage = damage_of(data, transfer)
    evidence.figure("joins of the attacker", int(joined is not None))
    evidence.figure("streams changed", int(bool(damage)))
    if refuses is not None:
        assert (joined is None) == refuses, f"the attacker's join was {'accepted' if refuses else 'refused'}"
    assert bool(damage) == (joined is not None), damage or "the attacker's data did not reach the application"
