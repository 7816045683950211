"""RELAY-1 and RELAY-4: MPTCP between two proxies, plain TCP at both ends; a second proxy without MPTCP."""

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.relay.legs import check_falls_back, check_three_legs
from mptcp_lab.suite.relay.relays import Relay


@claim("RELAY-1")
def test_legs(client: Machine, relay: Relay, evidence: EvidenceBox) -> None:
    """The leg between the proxies is MPTCP with all subflows, and both outer legs are plain TCP."""
    check_three_legs(client, relay, evidence)


@claim("RELAY-4")
def test_without_mptcp(client: Machine, relay_to_tcp: Relay, evidence: EvidenceBox) -> None:
    """The second proxy has no MPTCP: the leg between the proxies falls back to TCP, and service goes on."""
    check_falls_back(client, relay_to_tcp, evidence)
