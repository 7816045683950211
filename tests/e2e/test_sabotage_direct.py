"""The checks of DIRECT-5 to DIRECT-15 seen red."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Configured
from tests.e2e.sabotage import Sabotage, assert_seen, filtered, share_runs

ENDPOINTS_BACK = "systemctl restart mptcp-lab-mptcp"
A2_WAITS = "ip mptcp endpoint change id 3 backup fullmesh"
HOOK = "type filter hook input priority 0;"
#: A-2's handshakes get through to B, its data does not.
STARVED = (
    f"nft 'add table inet sabotage; add chain inet sabotage c {{ {HOOK} }};"
    " add rule inet sabotage c ip saddr 198.18.2.10 tcp dport 7000 meta length > 300 drop'"
)
FED = "nft delete table inet sabotage"
#: Handshakes with B-2 leave A, data for it does not.
TO_B1_ONLY = STARVED.replace("hook input", "hook output").replace("saddr 198.18.2.10", "daddr 198.18.2.31")
#: A-1 carries some data to B, then none any more.
SPENT = (
    f"nft 'add table inet sabotage; add chain inet sabotage c {{ {HOOK} }}; add rule inet sabotage c"
    " ip saddr 198.18.1.10 tcp dport 7000 meta length > 300 quota over 60 kbytes drop'"
)
#: Nothing gets from A to B's origin.
REFUSED = (
    f"nft 'add table inet sabotage; add chain inet sabotage c {{ {HOOK.replace('input', 'output')} }};"
    " add rule inet sabotage c ip daddr 198.18.1.31 tcp dport 7000 reject with tcp reset'"
)
#: What B sends to A-2 never leaves B, but for handshakes and acknowledgements.
UNSENT = (
    f"nft 'add table inet sabotage; add chain inet sabotage c {{ {HOOK.replace('input', 'output')} }};"
    " add rule inet sabotage c ip daddr 198.18.2.10 meta length > 300 drop'"
)
#: A-1 carries some data from B, then none any more.
SPENT_BY_B = (
    f"nft 'add table inet sabotage; add chain inet sabotage c {{ {HOOK.replace('input', 'output')} }};"
    " add rule inet sabotage c ip daddr 198.18.1.10 tcp sport 7000 meta length > 300"
    " quota over 60 kbytes drop'"
)
#: The joins of A-2's endpoint, whose id is 3, reach B without their backup bit.
NOT_A_BACKUP = (
    f"nft 'add table inet sabotage; add chain inet sabotage c {{ {HOOK} }};"
    " add rule inet sabotage c tcp flags & (syn | ack) == syn tcp option @30,16,16 0x1103"
    " tcp option @30,16,16 set 0x1003'"
)
SYSCTL = "/usr/local/bin/sysctl"
FALSE_SYSCTL = f"printf '#!/bin/sh\\necho net.mptcp.enabled = 0' > {SYSCTL}; chmod 755 {SYSCTL}"

SABOTAGES = (
    Sabotage(
        "DIRECT-5", "client", "ip mptcp endpoint change id 1 backup fullmesh", ENDPOINTS_BACK, "other paths"
    ),
    Sabotage("DIRECT-6", "client", A2_WAITS, ENDPOINTS_BACK, "not used"),
    filtered(
        "DIRECT-6",
        "server1",
        "input",
        "ip saddr 198.18.2.10 limit rate over 1000 kbytes/second drop",
        "of the sum of the links",
    ),
    filtered(
        "DIRECT-6[download]",
        "client",
        "input",
        "ip daddr 198.18.2.10 limit rate over 300 kbytes/second drop",
        "of the sum of the links",
    ),
    Sabotage("DIRECT-8[link-down-at-A]", "server1", STARVED, FED, "goes on under the fault"),
    # With B's first link lost, A-1 still reaches B-2.
    Sabotage("DIRECT-8[link-down-at-B]", "client", TO_B1_ONLY, FED, "goes on under the fault"),
    Sabotage("DIRECT-8[cable-out-at-B]", "client", TO_B1_ONLY, FED, "goes on under the fault"),
    Sabotage("DIRECT-10[kernel]", "client", "ip mptcp limits set subflows 5", ENDPOINTS_BACK, "more octets"),
    Sabotage("DIRECT-11", "server1", STARVED, FED, "more octets"),
    Sabotage("DIRECT-11[both]", "server1", NOT_A_BACKUP, FED, "download: the backup carried"),
    Sabotage(
        "DIRECT-13[one-family-lost]",
        "client",
        "ip mptcp endpoint delete id 2; ip mptcp endpoint delete id 4",
        ENDPOINTS_BACK,
        "subflows",
    ),
    Sabotage(
        "DIRECT-14[python]",
        "client",
        REFUSED,
        FED,
        "the example failed on client",
    ),
    Sabotage(
        "DIRECT-15[download-cable-out-at-A]", "server1", UNSENT, FED, "the stream goes on under the fault"
    ),
    Sabotage("DIRECT-14[settings]", "client", FALSE_SYSCTL, f"rm {SYSCTL}", "net.mptcp.enabled = 0"),
)


@pytest.mark.parametrize("sabotages", share_runs(SABOTAGES))
def test_broken_lab_is_seen(configured: Configured, sabotages: list[Sabotage]) -> None:
    assert_seen(configured, *sabotages)


@pytest.mark.long  # the check gives the stream two minutes
@pytest.mark.parametrize(("case", "spent"), [("DIRECT-9", SPENT), ("DIRECT-9[download]", SPENT_BY_B)])
def test_a_path_that_comes_back_and_carries_nothing_is_seen(
    configured: Configured, case: str, spent: str
) -> None:
    assert_seen(configured, Sabotage(case, "server1", spent, FED, "20000 more octets"))
