"""SECURITY-7: a malicious server announces addresses of a third party."""

import pytest

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.packets import rows
from mptcp_lab.suite.rfc8684.peer import peer
from mptcp_lab.suite.rfc8684.peer_connections import served_client
from mptcp_lab.suite.security.third_party import ANNOUNCED, WAYS, announce, joins_at, most_joins


@claim("SECURITY-7")
@pytest.mark.parametrize("way", WAYS)
def test_third_party(
    client: Machine, server: Machine, attacker: Machine, evidence: EvidenceBox, way: str
) -> None:
    """However often the attacker announces B's ports, A sends B no more joins than its limits allow."""
    with (
        server.probe.capture(server.devices) as capture,
        peer(attacker, evidence) as malicious,
        served_client(client, malicious) as (_, first, _stream),
    ):
        announce(first, server, way)
        packets = capture.stop()
    sent, most = joins_at(packets), most_joins(client)
    evidence.packets(rows(sent, server.name), "joins at the third party")
    evidence.figure("announcements", ANNOUNCED)
    evidence.figure("joins at the third party", len(sent))
    evidence.figure("joins that the limits allow", most)
    assert sent, "no join came to the third party: the client does not follow announcements"
    assert len(sent) <= most, f"{len(sent)} joins came to the third party, {most} are allowed"
