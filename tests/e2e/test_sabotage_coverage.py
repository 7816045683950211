"""The cases that cover sub-tests of the kernel's selftests, seen red."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Configured
from tests.e2e.sabotage import TABLE_GONE, Sabotage, assert_seen, filtered, with_marks
from tests.e2e.test_sabotage_endpoints import PRIORITY

SYN = "tcp flags & (syn | ack) == syn"
JOIN = f"{SYN} tcp option mptcp subtype mp-join"
ANNOUNCEMENT = "tcp option mptcp subtype add-addr drop"
NOT_ANNOUNCED = "announced [], not just"
#: Closes A's second subflow when its endpoint becomes a backup, as a kernel that takes it for its own would.
CLOSER = (
    "systemd-run -q --unit=closer sh -c 'while sleep 0.02; do ip mptcp endpoint show id 7 | grep -q backup"
    " && ss -K src 198.18.2.10 dport = 7000; done'"
)
#: Gives every socket unit MPTCP, as an administrator's drop-in may.
DROP_IN = "/run/systemd/system/socket.d"
EVERY_SOCKET = f"""
mkdir -p {DROP_IN}
printf '[Socket]\\nSocketProtocol=mptcp\\n' > {DROP_IN}/sabotage.conf
systemctl daemon-reload
"""

#: REMOVE_ADDR of two ids (kind 30, 5 octets) comes after timestamps and a DATA_ACK of 8 or 4 octets.
WITHDRAWAL = "@th,352,16 0x1e05 drop; add rule inet sabotage c @th,320,16 0x1e05 drop"
#: The tracker of a router sees nothing.
UNTRACKED = (
    "nft 'add table inet sabotage; add chain inet sabotage c { type filter hook prerouting priority raw; };"
    " add rule inet sabotage c meta l4proto tcp notrack'"
)

SABOTAGES = {
    "A's announcement is lost": filtered(
        "DIRECT-20[both-flags]", "client", "output", ANNOUNCEMENT, NOT_ANNOUNCED
    ),
    "B's announcement is lost": filtered(
        "DIRECT-20[both-flags-without-room]", "server1", "output", ANNOUNCEMENT, NOT_ANNOUNCED
    ),
    "A's announcement is lost beside B's": filtered(
        "DIRECT-20[announced-by-both]", "client", "output", ANNOUNCEMENT, NOT_ANNOUNCED
    ),
    "the joins of a full mesh are lost": filtered(
        "DIRECT-20[fullmesh-set]",
        "server1",
        "input",
        f"ip saddr 198.18.2.10 ip daddr 198.18.1.31 {JOIN} drop",
        "fullmesh is set",
    ),
    "the next endpoint's join is lost too": filtered(
        "DIRECT-20[next-joins-refused]",
        "server1",
        "input",
        f"ip saddr 198.18.3.10 {JOIN} drop",
        "the first join is refused",
    ),
    "the join of a later endpoint is lost": filtered(
        "DIRECT-20[added-after-refusal]",
        "server1",
        "input",
        f"ip saddr 198.18.3.10 {JOIN} drop",
        "another endpoint is added",
    ),
    "B announces no IPv6 address": filtered(
        "DIRECT-13[ipv4-socket]", "server1", "output", ANNOUNCEMENT, "an announcement at client (AddAddr)"
    ),
    "only the first two IPv6 joins get to B": filtered(
        "DIRECT-13[endpoints]",
        "server1",
        "input",
        f"meta nfproto ipv6 {JOIN} limit rate over 1/day burst 2 packets drop",
        "both are added again",
    ),
    "joins between link-local addresses are lost": filtered(
        "DIRECT-13[link-local-laminar]",
        "server1",
        "input",
        f"ip6 saddr fe80::/10 {JOIN} drop",
        "the subflow ('fe80::",
    ),
    "joins to an announced port are lost": filtered(
        "DIRECT-16[signal-with-port]",
        "server1",
        "input",
        f"tcp dport != 7000 {JOIN} drop",
        "the connection begins: not within",
    ),
    "the server's subflow is refused": filtered(
        "DIRECT-24[opens]",
        "client",
        "input",
        f"{JOIN} reject with tcp reset",
        "a subflow that the server opens",
    ),
    "a backup's subflow is closed": Sabotage(
        "DIRECT-26[endpoints-ignored]", "client", CLOSER, "systemctl stop closer", "the endpoint is a backup"
    ),
    "the join with id 0 is lost": filtered(
        "DIRECT-26[id-0]", "server1", "input", f"{JOIN} drop", "user space has ordered a subflow with id 0"
    ),
    "every socket unit gets MPTCP": Sabotage(
        "PROXY-15[systemd-without]",
        "proxy1",
        EVERY_SOCKET,
        f"rm -r {DROP_IN}; systemctl daemon-reload",
        "the listener of a plain socket unit is not TCP",
    ),
    "one proxy passes nothing large to A": filtered(
        "SPLIT-8[haproxy-download-first-killed]",
        "proxy2",
        "output",
        "ip daddr 198.18.2.10 meta length > 1000 drop",
        "bytes through both proxies",
    ),
    "one proxy passes nothing large to A, both ends send": filtered(
        "SPLIT-8[nginx-both-second-cables-out]",
        "proxy2",
        "output",
        "ip daddr 198.18.2.10 meta length > 1000 drop",
        "bytes through both proxies",
    ),
    "the keepalives of A's second path are lost before they are seen": filtered(
        "DIRECT-18[keepalives]",
        "client",
        "output",
        "ip saddr 198.18.2.10 tcp dport 7000 meta length < 70 drop",
        "keepalives",
    ),
    "B's withdrawal is lost": filtered(
        "RFC8684-3.4.2/1[flush]",
        "server1",
        "output",
        WITHDRAWAL,
        "RmAddr",
    ),
    "the gateway's tracker sees nothing": Sabotage(
        "DIRECT-25[tracker-at-gateway]", "gateway", UNTRACKED, TABLE_GONE, "that gateway has no entry for"
    ),
    "the gateway's tracker sees no packet of a join": Sabotage(
        "DIRECT-25[join-invalid-at-gateway]", "gateway", UNTRACKED, TABLE_GONE, "subflows are missing: []"
    ),
    "the flood does not reach the proxy": filtered(
        "SECURITY-6[nginx-native-MP_JOIN]",
        "proxy2",
        "input",
        f"tcp sport 30000-30255 {SYN} drop",
        "MPJoinSynRx at proxy2",
    ),
    "A's changes of a backup are lost": filtered(
        "DIRECT-20[fullmesh-set]", "client", "output", PRIORITY, "MP_PRIO from 198.18.2.10"
    ),
    "another program raises the limit": Sabotage(
        "DIRECT-20[no-room-at-client]",
        "client",
        "systemd-run -q --unit=raiser sh -c 'while sleep 0.02; do ip mptcp limits set subflows 8; done'",
        "systemctl stop raiser",
        "subflows",
    ),
    "the join to the reachable address is lost": filtered(
        "DIRECT-20[some-unreachable]", "server1", "input", f"{JOIN} drop", "the connection begins"
    ),
    "B gets no MPTCP option": filtered(
        "PROXY-14[gauges]",
        "server1",
        "input",
        f"{SYN} tcp dport 7000 reset tcp option mptcp",
        "5 more connections at",
    ),
    "A's second path does not reach the transparent proxy": filtered(
        "PROXY-15[tproxy]",
        "gateway",
        "input",
        f"ip saddr 198.18.2.10 {SYN} drop",
        "a subflow of each NIC of client",
    ),
}
#: The others run with `-m long` only: each waits ten seconds for what does not come.
ALWAYS = (
    "A's announcement is lost",
    "B's announcement is lost",
    "A's announcement is lost beside B's",
    "every socket unit gets MPTCP",
    "A's changes of a backup are lost",
    "the flood does not reach the proxy",
)


@pytest.mark.parametrize("sabotage", with_marks(SABOTAGES, ALWAYS))
def test_broken_lab_is_seen(configured: Configured, sabotage: Sabotage) -> None:
    assert_seen(configured, sabotage)
