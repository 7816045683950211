"""SECURITY-3: forged options and resets of somebody who is not on the path, or does not have the keys."""

import pytest

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.expectations import direct_flow, expected_pairs, origin_of, wait_for_joins
from mptcp_lab.suite.packets import tcp_capture
from mptcp_lab.suite.requirements import FULL_MESH, ORIGIN
from mptcp_lab.suite.security.forging import forging_packets
from mptcp_lab.suite.security.harm import PAUSE_SECONDS, damage_of, observe_stream
from mptcp_lab.suite.security.options import FAR_AHEAD, FORGED, check_obeyed, forge, joins_received

PLACES = {"off-path": (tuple(FORGED), FAR_AHEAD), "on-path": (("ADD_ADDR", "MP_FASTCLOSE"), 0)}


@claim("SECURITY-3", requires=(ORIGIN, FULL_MESH))
@pytest.mark.parametrize("place", PLACES)
def test_forged_options(
    client: Machine, server: Machine, attacker: Machine, evidence: EvidenceBox, place: str
) -> None:
    """Forged outside the window, or inside with a wrong HMAC or key, options and resets change nothing."""
    names, ahead = PLACES[place]
    with (
        tcp_capture(client, origin_of(server).port) as capture,
        direct_flow(client, server) as data,
        forging_packets(attacker, 0, evidence) as forger,
    ):
        transfer = data.start(interval=PAUSE_SECONDS)
        wait_for_joins(data, expected_pairs(client, server))
        before, overheard = observe_stream(data, client, server), capture.stop()
        for name in names:
            forge(forger, name, overheard, origin_of(server).port, ahead)
            before.check_unchanged(f"forged {name}")
        followed = joins_received(forger)
        check_obeyed(forger, before, overheard, origin_of(server).port)
        damage = damage_of(data, transfer)
    evidence.figure("forged packets", forger.sent)
    assert not followed, f"the client joined the attacker's address {followed} times"
    assert not damage, damage
