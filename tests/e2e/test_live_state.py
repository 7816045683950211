"""Test that STATE-4 names what was changed on a running host, and that the next run brings it back."""

from __future__ import annotations

import re

from tests.e2e.conftest import Configured

NGINX = "/etc/nginx/nginx.conf"
#: By host: what changes its live state or a file, and what STATE-4 has to say of it.
DRIFT = (
    ("server1", "ip mptcp limits set subflows 0", "limits (live): +add_addr_accepted 8 subflows 8"),
    ("server1", "sysctl -qw net.mptcp.stale_loss_cnt=100", "net.mptcp.stale_loss_cnt = 100"),
    ("server1", "ip rule del pref 7101", "+from 198.18.1.31 lookup 7101 priority 7101"),
    ("server1", "ip link set eth2 down", "links (live): +eth2 up"),
    ("client", "ip mptcp endpoint flush", "endpoints (live): +198.18.2.10 id 3 dev eth2 fullmesh subflow"),
    ("client", "ip addr del 198.18.2.10/24 dev eth2", "addresses (live): +198.18.2.10/24 dev eth2"),
    # As a router advertisement leaves it: its address is gone, the route of its prefix stays for an hour.
    (
        "client",
        "ip -6 route add 2001:db8:bad::/64 dev eth1 proto kernel expires 3600",
        "routes (live): -2001:db8:bad::/64 dev eth1 table main",
    ),
    ("client", "sysctl -qw net.ipv4.conf.eth1.rp_filter=1", "net/ipv4/conf/eth1/rp_filter = 1"),
    ("client", "sysctl -qw net.mptcp.blackhole_timeout=9", "net.mptcp.blackhole_timeout = 9"),
    ("server2", "ip addr add 198.18.10.99/24 dev eth1", "addresses (live): -198.18.10.99/24 dev eth1"),
    (
        "server2",
        "ip -6 route del 2001:db8:1::/64 table 7101",
        "+2001:db8:1::/64 via 2001:db8:10::1 dev eth1 table 7101",
    ),
    ("server2", "ip route add blackhole 203.0.113.0/24 table 7101", "-blackhole 203.0.113.0/24 table 7101"),
    # A restart that is due anyway does not hide what differs.
    ("server2", "touch /usr/local/sbin/mptcp-lab-network", "mptcp-lab-network.service: restart"),
    ("gateway", "sysctl -qw net.ipv4.conf.eth1.forwarding=0", "+net/ipv4/conf/eth1/forwarding = 1"),
    (
        "gateway",
        "nft insert rule inet mptcp_lab_gateway forward accept",
        "-inet mptcp_lab_gateway chain forward: accept",
    ),
    ("proxy1", "nft delete table inet mptcp_lab_forward", "mptcp-lab-forward.service: nft (live)"),
    ("proxy1", "echo '# edited' >>/etc/haproxy/haproxy.cfg", "/etc/haproxy/haproxy.cfg: -# edited"),
    # One of nginx's addresses loses `multipath`: the file is what it was, the listener is not.
    (
        "proxy2",
        rf"cp -p {NGINX} /root/kept && sed -i 's/\(198.18.1.22:7100\) multipath/\1/' {NGINX} &&"
        f" systemctl restart nginx && mv /root/kept {NGINX}",
        "nginx.service: reload",
    ),
    (
        "server2",
        "ss -K -Hltn 'src = 198.18.10.32 and sport = :7002'",  # the kernel closes a listener of the origin
        "mptcp-lab-origin@seen.service: listeners (live): +tcp 198.18.10.32:7002",
    ),
)


def test_every_difference_is_named_and_brought_back(configured: Configured) -> None:
    for host, command, _ in DRIFT:
        configured.own.ssh(host, command)
    red = configured.suite("--claim=STATE-4")
    printed = configured.play("--diff")
    assert red.verdicts() == {"STATE-4": "fail"}, red.output
    unnamed = [(host, word) for host, _, word in DRIFT if f"{host}: " not in red.reason("STATE-4")]
    unnamed += [(host, word) for host, _, word in DRIFT if word not in red.reason("STATE-4")]
    assert not unnamed, red.reason("STATE-4")
    # Limits and endpoints are back when their role compares them: their unit restarts with the network's.
    named = [word for _, _, word in DRIFT if not word.startswith(("limits", "endpoints"))]
    assert [word for word in named if word.partition(": ")[2].rpartition(": ")[2] not in printed] == []
    assert "198.18.1.22:7100" in configured.own.ssh("proxy2", "ss -Hln -M")
    green = configured.suite("--claim=STATE-*", "--claim=DIRECT-3", "--claim=PROXY-1")
    assert set(green.verdicts().values()) <= {"pass", "unsupported"}, green.output


def test_only_what_differs_is_touched(configured: Configured) -> None:
    """Limits of one host: one task changes, there, and no other unit is restarted.

    This is the next run of all playbooks: it also shows that what was brought back stays.
    """
    started = "systemctl show --property=InvocationID mptcp-lab-network mptcp-lab-origin@origin"
    before = configured.own.ssh("server1", started)
    configured.own.ssh("server1", "ip mptcp limits set subflows 1")
    printed = configured.play("--diff")
    assert re.findall(r"(?m)^(\S+)\s+: ok=\d+\s+changed=[1-9]", printed) == ["server1"]
    assert [line for line in printed.splitlines() if re.match(r"[+-]\w", line)] == [
        "-add_addr_accepted 8 subflows 1",
        "+add_addr_accepted 8 subflows 8",
    ]
    assert configured.own.ssh("server1", started) == before
