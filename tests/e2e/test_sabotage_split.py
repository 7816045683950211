"""The checks of SPLIT and GATEWAY seen red: one sabotage for each claim."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Configured
from tests.e2e.sabotage import Sabotage, assert_seen, share_runs

ENDPOINTS_BACK = "systemctl restart mptcp-lab-mptcp"
#: The unit is still active: STATE-2 finds nothing.
NO_FORWARDING = "nft delete table inet mptcp_lab_forward"
FORWARDING = "systemctl restart mptcp-lab-forward"
#: The proxy refuses what comes for its first listener.
REFUSES = (
    "nft 'add table ip sabotage; add chain ip sabotage c { type filter hook input priority 0; };"
    " add rule ip sabotage c tcp dport 7000 reject with tcp reset'"
)
TABLE_GONE = "nft delete table ip sabotage"

#: What B sends through the first proxy never leaves B, but for handshakes and acknowledgements.
B_STARVES_FIRST = (
    "nft 'add table inet sabotage; add chain inet sabotage c { type filter hook output priority 0; };"
    " add rule inet sabotage c ip daddr 198.18.10.21 meta length > 300 drop'"
)
FED = "nft delete table inet sabotage"


def nat(kind: str, priority: int, rule: str) -> str:
    """Commands that add a NAT rule in a table of its own."""
    hook = f"type nat hook {kind} priority {priority};"
    return f"nft 'add table ip sabotage; add chain ip sabotage c {{ {hook} }}; add rule ip sabotage c {rule}'"


#: The second proxy passes the join on to the first, which knows its token.
JOIN_PASSED_ON = (
    nat("prerouting", -110, "ip daddr 198.18.2.22 tcp dport 7000 dnat to 198.18.2.21")
    + " && nft 'add chain ip sabotage s { type nat hook postrouting priority 90; };"
    " add rule ip sabotage s ip daddr 198.18.2.21 tcp dport 7000 masquerade'"
)
#: As soon as the experiment has set its default route, somebody else adds one.
ROUTE_ADDED = (
    "systemd-run -q --unit=sabotage sh -c 'until ip route show default | grep -q .; do :; done;"
    " ip route add 198.18.99.0/24 dev eth1'"
)
#: A reaches B's core address on path 1, past the router.
PAST_THE_ROUTER = "ip route add 198.18.10.31/32 dev eth1 table 7101"
THROUGH_THE_ROUTER = "ip route del 198.18.10.31/32 table 7101"

SABOTAGES = (
    Sabotage(
        "SPLIT-1", "client", "ip mptcp limits set subflows 8 add_addr_accepted 0", ENDPOINTS_BACK, "subflows"
    ),
    Sabotage("SPLIT-1[while-B-sends-download]", "proxy2", NO_FORWARDING, FORWARDING, "subflows"),
    Sabotage("SPLIT-2", "proxy2", NO_FORWARDING, FORWARDING, "subflows"),
    Sabotage(
        "SPLIT-3[no-snat-C-flag]", "proxy2", nat("postrouting", 90, "masquerade"), TABLE_GONE, "198.18.10.22"
    ),
    Sabotage("SPLIT-4[first-forwards-nothing]", "proxy2", NO_FORWARDING, FORWARDING, "subflows"),
    Sabotage("SPLIT-5", "proxy2", NO_FORWARDING, FORWARDING, "subflows"),
    Sabotage("SPLIT-6[download]", "server1", B_STARVES_FIRST, FED, "through each proxy: [0,"),
    Sabotage("SPLIT-7[haproxy]", "proxy2", JOIN_PASSED_ON, TABLE_GONE, "the join at the second proxy"),
    Sabotage(
        "SPLIT-8[haproxy-first-killed]",
        "proxy2",
        REFUSES,
        TABLE_GONE,
        "bytes through both proxies",
    ),
    Sabotage("GATEWAY-2", "gateway", nat("postrouting", 90, "masquerade"), TABLE_GONE, "translated on"),
    Sabotage("GATEWAY-3", "client", "ip rule del pref 7102", "systemctl restart mptcp-lab-network", "eth2"),
    Sabotage(
        "GATEWAY-4",
        "client",
        ROUTE_ADDED,
        "systemctl stop sabotage; ip route del 198.18.99.0/24",
        "+ 198.18.99.0/24",
    ),
    Sabotage("GATEWAY-5[strips-syn]", "client", PAST_THE_ROUTER, THROUGH_THE_ROUTER, "MPTCP came up"),
    Sabotage("GATEWAY-5[drops]", "client", PAST_THE_ROUTER, THROUGH_THE_ROUTER, "[True, False"),
)


@pytest.mark.parametrize("sabotages", share_runs(SABOTAGES))
def test_broken_lab_is_seen(configured: Configured, sabotages: list[Sabotage]) -> None:
    assert_seen(configured, *sabotages)
