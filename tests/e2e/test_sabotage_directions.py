"""Checks of directions, cookies, remains, balancers and middleboxes are seen red."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from mptcp_lab.machines.reach import target
from mptcp_lab.probe import Probe
from tests.e2e.conftest import Configured
from tests.e2e.sabotage import Sabotage, assert_seen
from tests.labs import leased_fault

TABLE_GONE = "nft delete table inet sabotage"
#: The unit is still active: STATE-2 finds nothing.
NO_FORWARDING = "nft delete table inet mptcp_lab_forward"
FORWARDING = "systemctl restart mptcp-lab-forward"
#: A reaches B's core address on path 1, past the router.
PAST_THE_ROUTER = "ip route add 198.18.10.31/32 dev eth1 table 7101"
THROUGH_THE_ROUTER = "ip route del 198.18.10.31/32 table 7101"
STOP = "systemctl stop sabotage"
TIMEOUT, COOKIES = "net.mptcp.blackhole_timeout", "net.ipv4.tcp_syncookies"
C_FLAG = "net.mptcp.allow_join_initial_addr_port"


def again_and_again(command: str) -> str:
    """Run a command on a host fifty times a second, until the unit is stopped."""
    return f"systemd-run -q --collect --unit=sabotage sh -c 'while sleep 0.02; do {command}; done'"


def without_effect(sysctl: str) -> str:
    """Cover a sysctl by a file with its value: the kernel never sees what the check writes there."""
    path = "/proc/sys/" + sysctl.replace(".", "/")
    return f"cat {path} > /run/sabotage; mount --bind /run/sabotage {path}"


def with_effect(sysctl: str) -> str:
    """Uncover a sysctl."""
    return f"umount /proc/sys/{sysctl.replace('.', '/')}; rm /run/sabotage"


def rule(hook: str, text: str) -> str:
    """Add a packet filter rule in a table of its own."""
    kind = f"type filter hook {hook} priority 0;"
    return (
        f"nft 'add table inet sabotage; add chain inet sabotage c {{ {kind} }};"
        f" add rule inet sabotage c {text}'"
    )


MORE_AND_MORE = (
    "systemd-run -q --collect --unit=sabotage python3 -c 'import socket, time; kept = [];"
    ' [kept.append((socket.create_server(("127.0.0.1", 0)), time.sleep(0.2))) for _ in range(1000)]\''
)
#: When the check has set the timeout to 0, somebody else sets it to a minute.
SET_BY_OTHERS = (
    f"sysctl -qw {TIMEOUT}=60; systemd-run -q --collect --unit=sabotage sh -c"
    f" 'until [ \"$(sysctl -n {TIMEOUT})\" = 0 ]; do sleep 0.01; done; sysctl -qw {TIMEOUT}=60'"
)

NO_SYN = rule("input", "tcp dport 7000 tcp flags & (syn | ack) == syn drop")
CONNECTED = "ss -Htn state established sport = 7000 | grep -q ."
#: When the check has set its limit, another program raises it again; no SYN comes in before that. In the end
#: the packet filter is as it was, so that the check does not wait for a trace to go.
RAISE_LIMIT = f"""until ip mptcp limits | grep -q "subflows 1 *$"; do sleep 0.02; done
ip mptcp limits set subflows 8
{TABLE_GONE}
until {CONNECTED}; do sleep 0.02; done
while {CONNECTED}; do sleep 0.02; done
{NO_SYN}"""
LIMIT_RAISED = f"{NO_SYN}; systemd-run -q --collect --unit=sabotage sh -c {shlex.quote(RAISE_LIMIT)}"

SABOTAGES = (
    Sabotage(
        "PROXY-13[direct]",
        "server1",
        without_effect(COOKIES),
        with_effect(COOKIES),
        "none was in use",
    ),
    Sabotage(
        "PROXY-13[haproxy-preload]",
        "proxy1",
        rule("input", "tcp dport 7000 tcp option mptcp exists ip saddr 198.18.2.10 drop"),
        TABLE_GONE,
        "subflows",
    ),
    Sabotage(
        "PROXY-13[limit]",
        "server1",
        LIMIT_RAISED,
        f"{STOP} 2>&1; {TABLE_GONE} 2>&1; ip mptcp limits set subflows 8",
        "limit of one",
    ),
    Sabotage(
        "SPLIT-4[while-B-sends-second-both-forwards-nothing]",
        "proxy1",
        NO_FORWARDING,
        FORWARDING,
        "subflows",
    ),
    Sabotage(
        "SPLIT-9[own-port]",
        "server1",
        rule("input", "tcp dport 7401 drop"),
        TABLE_GONE,
        "which server1 announced",
    ),
    Sabotage(
        "SPLIT-9[own-address]",
        "server1",
        without_effect(C_FLAG),
        with_effect(C_FLAG),
        "which server1 announced",
    ),
    Sabotage(
        "SPLIT-9[port-endpoint-mptcp]",
        "server1",
        rule("input", "tcp dport 7401 reject with tcp reset"),
        TABLE_GONE,
        "has no port for joins",
    ),
    Sabotage("GATEWAY-6", "client", again_and_again(f"sysctl -qw {TIMEOUT}=1"), STOP, "after the suspicion"),
    Sabotage(
        "GATEWAY-6[switched-off]",
        "client",
        SET_BY_OTHERS,
        f"{STOP}; sysctl -qw {TIMEOUT}=0",
        "did not ask for MPTCP",
    ),
    Sabotage(
        "GATEWAY-7[splits-and-copies-options]",
        "server1",
        rule("input", "tcp dport 7000 tcp flags & (syn | ack) == syn reset tcp option mptcp"),
        TABLE_GONE,
        "ended as TCP",
    ),
)


#: These wait for subflows that never come; another sabotage of the same claim is quick.
LONG = {
    "PROXY-13[haproxy-preload]",
    "SPLIT-4[while-B-sends-second-both-forwards-nothing]",
    "SPLIT-9[own-address]",
}


@pytest.mark.parametrize(
    "sabotage",
    [
        pytest.param(each, id=each.claim, marks=[pytest.mark.long] if each.claim in LONG else [])
        for each in SABOTAGES
    ],
)
def test_broken_lab_is_seen(configured: Configured, sabotage: Sabotage) -> None:
    assert_seen(configured, sabotage)


@pytest.mark.long  # the check waits until the sockets should be gone
def test_sockets_that_remain_are_seen(configured: Configured) -> None:
    """PROXY-14: a program at B opens sockets and closes none."""
    assert_seen(
        configured, Sabotage("PROXY-14[haproxy-native]", "server2", MORE_AND_MORE, STOP, "no more sockets at")
    )


#: A byte of the payload is changed, its TCP checksum made right: the check, the host, the packets.
FLIPS: dict[str, tuple[str, dict[str, Any]]] = {
    "PROXY-16[payload-nginx-native]": ("server2", {"direction": "out", "sport": 7000}),
    "GATEWAY-7[splits-and-keeps-options-once]": ("server1", {"direction": "in", "dport": 7000}),
    "GATEWAY-7[mirrors-options]": ("client", {"direction": "in", "source": "198.18.1.1"}),
}


@pytest.mark.parametrize("case", FLIPS)
def test_a_byte_changed_on_the_way_is_seen(configured: Configured, case: str) -> None:
    lab, (host, packets) = configured.own.lab, FLIPS[case]
    with (
        Probe.open(target(lab, lab.hosts[host])) as probe,
        leased_fault(probe, "flip", position=200, ttl=60, **packets),
    ):
        red = configured.suite(f"--claim={case}")
    assert red.verdicts() == {case: "fail"}, red.output
    assert "not the same ones" in red.reason(case)
