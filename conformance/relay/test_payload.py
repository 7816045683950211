"""RELAY-2: two proxies pass data on unchanged, byte for byte, in both directions."""

import pytest

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.directions import BOTH, DIRECTIONS, DOWNLOAD, UPLOAD
from mptcp_lab.suite.find.relays import RELAYS
from mptcp_lab.suite.relay.payload import MUCH, PAYLOADS, check_unchanged
from mptcp_lab.suite.relay.relays import Relay


@claim("RELAY-2")
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_payloads(client: Machine, relay: Relay, evidence: EvidenceBox, direction: str) -> None:
    """Each payload arrives unchanged at B, at A, or at both at the same time."""
    for payload in PAYLOADS.values():
        check_unchanged(client, relay, payload, direction)
    evidence.figure("bytes each way", sum(each.nbytes for each in PAYLOADS.values()))


@claim("RELAY-2", case="64MiB")
@pytest.mark.parametrize(
    ("relay", "direction"),
    list(zip(RELAYS, (UPLOAD, DOWNLOAD, BOTH, UPLOAD), strict=True)),
    indirect=["relay"],
)
def test_much(client: Machine, relay: Relay, evidence: EvidenceBox, direction: str) -> None:
    """Through each relay, in one direction or in both, 64 MiB arrive unchanged."""
    check_unchanged(client, relay, MUCH, direction)
    evidence.figure("bytes each way", MUCH.nbytes)
