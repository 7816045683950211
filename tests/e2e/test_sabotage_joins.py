"""Matrix checks see joins that only one end believes in, and name why each subflow is missing."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Configured
from tests.e2e.sabotage import Sabotage, assert_seen, broken, filtered, with_marks

NETWORK_BACK = "systemctl restart mptcp-lab-network mptcp-lab-mptcp"
#: The third packet of a join: no SYN, and MP_JOIN.
THIRD = "tcp flags & (syn | ack) == ack tcp option mptcp subtype mp-join"
OTHER_PATH = "198.18.2.10 (eth2) > 198.18.1.31"
#: B answers over another way than the one that the SYN came by: the gateway sees one direction only.
ASYMMETRIC = """
ip route replace 198.18.1.0/24 dev eth1 table 7102 proto 71
ip route replace 198.18.2.0/24 dev eth2 table 7101 proto 71
"""
SYMMETRIC = """
ip route replace 198.18.1.0/24 via 198.18.2.1 dev eth2 table 7102 proto 71
ip route replace 198.18.2.0/24 via 198.18.1.1 dev eth1 table 7101 proto 71
"""
C_FLAG = "sysctl -qw net.mptcp.allow_join_initial_addr_port"
LARGE = "meta length > 1400 drop"
#: nginx loses `multipath` on one of its four addresses, and is reloaded.
ONE_ADDRESS = """
cp -p /etc/nginx/nginx.conf /root/aside
sed -i 's/listen 198.18.2.22:7100 multipath;/listen 198.18.2.22:7100;/' /etc/nginx/nginx.conf
systemctl reload nginx; until [ -z "$(ss -HlnM 'src 198.18.2.22:7100')" ]; do sleep 0.1; done
"""


SABOTAGES = {
    "third packets dropped at B": filtered(
        "DIRECT-3", "server1", "input", f"{THIRD} drop", "third packet dropped at the server"
    ),
    "third packets dropped at B, one accept": filtered(
        "DIRECT-4", "server1", "input", f"{THIRD} drop", "third packet dropped at the server"
    ),
    "third packets dropped at B, IPv6": filtered(
        "DIRECT-13[fullmesh]", "server1", "input", f"{THIRD} drop", "third packet dropped at the server"
    ),
    "third packets dropped at B, failover": filtered(
        "DIRECT-7", "server1", "input", f"{THIRD} drop", "third packet dropped at the server"
    ),
    "third packets lost at the gateway": filtered(
        "DIRECT-3", "gateway", "forward", f"{THIRD} drop", "third packet lost on the way"
    ),
    "third packets dropped at a proxy": filtered(
        "PROXY-1[haproxy-preload]", "proxy1", "input", f"{THIRD} drop", "third packet dropped at the server"
    ),
    "third packets lost behind a forwarder": filtered(
        "SPLIT-1", "server1", "input", f"{THIRD} drop", "third packet lost"
    ),
    "third packets lost at the router": filtered(
        "GATEWAY-2", "gateway", "forward", f"{THIRD} drop", "third packet lost"
    ),
    "joins rejected at the gateway": filtered(
        "DIRECT-3",
        "gateway",
        "forward",
        "tcp dport 7000 reject with tcp reset",
        "something on the way resets",
    ),
    "answers dropped at the gateway": filtered(
        "DIRECT-3", "gateway", "forward", "tcp sport 7000 drop", "the SYN/ACK is lost on the way back"
    ),
    "SYNs dropped at B": filtered(
        "DIRECT-3",
        "server1",
        "input",
        "ip saddr 198.18.2.10 tcp dport 7000 drop",
        "the SYN is dropped at the server (the SYN came to server1, no answer left, its packet filter drops",
    ),
    "announcements dropped": filtered(
        "DIRECT-3", "server1", "output", "tcp option mptcp subtype add-addr drop", "the announcement was lost"
    ),
    "the client's endpoint gone": Sabotage(
        "DIRECT-3",
        "client",
        "ip mptcp endpoint delete id 3",
        NETWORK_BACK,
        f"{OTHER_PATH}, 198.18.2.10 (eth2) > 198.18.2.31: the client's endpoint is gone",
    ),
    "the client's address gone": Sabotage(
        "DIRECT-3",
        "client",
        "ip address delete 198.18.2.10/24 dev eth2",
        NETWORK_BACK,
        "the client's address is gone (no device of client that is up has it, MPJoinSynTxBindErr",
    ),
    "the server's endpoint gone": Sabotage(
        "DIRECT-3",
        "server1",
        "ip mptcp endpoint delete id 3",
        NETWORK_BACK,
        "the server does not announce the address",
    ),
    "limit at the client": Sabotage(
        "DIRECT-3",
        "client",
        "ip mptcp limits set subflows 1",
        NETWORK_BACK,
        "limit at the client (subflows 1",
    ),
    "limit at the server": Sabotage(
        "DIRECT-3", "server1", "ip mptcp limits set subflows 1", NETWORK_BACK, "limit at the server"
    ),
    "C flag": Sabotage("DIRECT-3", "server1", f"{C_FLAG}=0", f"{C_FLAG}=1", f"{OTHER_PATH}: C flag"),
    "no route": Sabotage(
        "DIRECT-3",
        "client",
        "ip route replace unreachable 198.18.1.0/24 table 7102",
        f"ip route delete unreachable 198.18.1.0/24 table 7102; {NETWORK_BACK}",
        f"{OTHER_PATH}: no route",
    ),
    "IPv6 endpoint gone where not all subflows fit": Sabotage(
        "DIRECT-13[fullmesh]",
        "server1",
        "ip mptcp endpoint delete id 4",
        NETWORK_BACK,
        "the server does not announce the address",
    ),
    "large packets lost on the way to B": filtered(
        "DIRECT-27",
        "server1",
        "input",
        f"ip saddr 198.18.2.10 {LARGE}",
        "the stream from client to server1 stops with segments of 1448 octets, small packets pass: path MTU",
    ),
    "large packets lost on the way back": filtered(
        "DIRECT-27",
        "server1",
        "output",
        f"ip6 daddr 2001:db8:1::10 {LARGE}",
        "the stream from server1 to client stops with segments of 1428 octets, small packets pass: path MTU",
    ),
    "one of four addresses without multipath": Sabotage(
        "STATE-3",
        "proxy2",
        ONE_ADDRESS,
        "mv /root/aside /etc/nginx/nginx.conf; systemctl restart nginx",
        "testtcp on 198.18.2.22 port 7100 is to be MPTCP (mptcp: native), TCP listens",
    ),
}


#: A test of each takes a quarter of a minute: most of them run with `-m long` only.
ALWAYS = (
    "third packets dropped at B",
    "third packets lost at the gateway",
    "third packets lost behind a forwarder",
    "the client's endpoint gone",
    "limit at the server",
    "no route",
    "IPv6 endpoint gone where not all subflows fit",
    "large packets lost on the way to B",
    "one of four addresses without multipath",
)


@pytest.mark.parametrize("sabotage", with_marks(SABOTAGES, ALWAYS))
def test_cause_is_named(configured: Configured, sabotage: Sabotage) -> None:
    assert_seen(configured, sabotage)


def test_a_stateful_firewall_that_sees_one_direction_is_named(configured: Configured) -> None:
    invalid = filtered(
        "DIRECT-3", "gateway", "forward", "ct state invalid drop", "third packet lost on the way"
    )
    with broken(configured, "server1", ASYMMETRIC, SYMMETRIC):
        assert_seen(configured, invalid)


@pytest.mark.long
def test_black_hole_detection_carries_a_stream_past_a_smaller_mtu(configured: Configured) -> None:
    """The kernel sends smaller packets until they pass; its offloads, which join them again, are off."""
    drop = filtered("DIRECT-27", "server1", "input", f"ip saddr 198.18.2.10 {LARGE}", "")
    probing = "sysctl -qw net.ipv4.tcp_mtu_probing"
    with (
        broken(
            configured,
            "client",
            f"{probing}=1; ethtool -K eth2 tso off gso off",
            f"{probing}=0; ethtool -K eth2 tso on gso on",
        ),
        broken(configured, drop.host, drop.command, drop.mend),
    ):
        green = configured.suite("--claim=DIRECT-27")
    assert green.verdicts() == {"DIRECT-27": "pass"}, green.output
