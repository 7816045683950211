"""SECURITY-4, SECURITY-5 and SECURITY-10: an attacker through whom the packets of one path go."""

import pytest

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.requirements import FULL_MESH, ORIGIN, TWO_PATHS
from mptcp_lab.suite.security.harm import damage_of
from mptcp_lab.suite.security.middle import payload_changed
from mptcp_lab.suite.security.one_path import BEYOND, HARMS, attacked_stream


@claim("SECURITY-4", requires=(ORIGIN, FULL_MESH, TWO_PATHS))
@pytest.mark.parametrize("harm", HARMS)
def test_attacker_on_one_path(
    client: Machine, server: Machine, attacker: Machine, evidence: EvidenceBox, harm: str
) -> None:
    """Whatever is dropped, reset, changed or forged on A-1, the stream arrives whole and A-2 stays."""
    with attacked_stream(client, server, attacker, evidence, asked=True) as attack, HARMS[harm](attack):
        lost = attack.stream.lost_pairs()
        damage = damage_of(attack.stream.flow, attack.transfer)
    evidence.figure("subflows lost", len(lost))
    beyond = [pair for pair in lost if pair[0] != client.address(0)]
    assert not beyond, f"subflows of other paths are lost: {sorted(beyond)}"
    assert not damage, damage


@claim("SECURITY-5", requires=(ORIGIN, FULL_MESH, TWO_PATHS))
@pytest.mark.parametrize("asked", [False, True], ids=["without-checksums", "with-checksums"])
def test_changed_payload(
    client: Machine, server: Machine, attacker: Machine, evidence: EvidenceBox, asked: bool
) -> None:
    """A payload that is changed on A-1 reaches the application without checksums, and not with them."""
    with (
        attacked_stream(client, server, attacker, evidence, asked=asked) as attack,
        payload_changed(attacker, client, attack.port),
    ):
        damage = damage_of(attack.stream.flow, attack.transfer)
    evidence.figure("streams changed", int(bool(damage)))
    assert bool(damage) != asked, damage or "the changed payload did not reach the application"


@claim("SECURITY-10", requires=(ORIGIN, FULL_MESH, TWO_PATHS))
@pytest.mark.parametrize("forged", BEYOND)
def test_beyond_the_path(
    client: Machine, server: Machine, attacker: Machine, evidence: EvidenceBox, forged: str
) -> None:
    """Options without a proof of the sender, forged on A-1 alone, end the stream of all paths."""
    with attacked_stream(client, server, attacker, evidence) as attack:
        BEYOND[forged](attack)
    evidence.figure("forged packets", attack.forger.sent)
