"""The checks of DIRECT-18 seen red: packets of a later subflow that lose what the application set."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Configured
from tests.e2e.sabotage import Sabotage, assert_seen

TABLE_GONE = "nft delete table inet sabotage"


def rewritten(claim: str, rule: str, word: str) -> Sabotage:
    """Let the client's packet filter change what leaves, before the check's counters see it."""
    chain = "add chain inet sabotage c { type filter hook output priority 0; }"
    command = f"nft 'add table inet sabotage; {chain}; add rule inet sabotage c {rule}'"
    return Sabotage(claim, "client", command, TABLE_GONE, word)


SABOTAGES = {
    "the later subflow loses its mark": rewritten(
        "DIRECT-18[ipv4]", "ip saddr 198.18.2.10 meta mark set 0", "packets from 198.18.2.10 lack the mark"
    ),
    "the later subflow loses its TOS": rewritten(
        "DIRECT-18[ipv4]",
        "ip saddr 198.18.2.10 ip dscp set 0",
        "packets from 198.18.2.10 lack the traffic class",
    ),
    "the later subflow over IPv6 loses its mark": rewritten(
        "DIRECT-18[ipv6]",
        "ip6 saddr 2001:db8:2::10 meta mark set 0",
        "packets from 2001:db8:2::10 lack the mark",
    ),
}


@pytest.mark.parametrize("sabotage", SABOTAGES.values(), ids=SABOTAGES)
def test_broken_lab_is_seen(configured: Configured, sabotage: Sabotage) -> None:
    assert_seen(configured, sabotage)
