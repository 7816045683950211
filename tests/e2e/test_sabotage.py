"""Every check is seen red: the lab is broken in the way the claim forbids, and repaired again.

Each test breaks one thing on a converged lab, runs the check it is about, and expects it to fail.
"""

from __future__ import annotations

import pytest

from mptcp_lab.machines.reach import target
from mptcp_lab.probe import Probe
from tests.e2e.conftest import Configured
from tests.e2e.sabotage import Sabotage, assert_seen, share_runs
from tests.labs import leased_fault

ENDPOINTS_GONE = "ip mptcp endpoint flush"
ENDPOINTS_BACK = "systemctl restart mptcp-lab-mptcp"
#: Endpoints without a device, and no rule that sends their packets out by their own NIC. With a route to the
#: spare path every join comes up and every counter looks right: only captures show the wrong NIC.
NO_DEV_NO_RULE = """
ip mptcp endpoint flush
for address in 198.18.1.10 198.18.2.10; do ip mptcp endpoint add $address subflow fullmesh; done
ip rule flush; ip rule add pref 32766 lookup main; ip route add 198.18.3.0/24 dev eth1
"""
RESTART = "systemctl reset-failed haproxy; systemctl restart haproxy"  # forget how often it started
DROP_IN = "/etc/systemd/system/haproxy.service.d"
WRAPPER_GONE = f"mv {DROP_IN} /root/aside; systemctl daemon-reload; {RESTART}"
WRAPPER_BACK = f"mv /root/aside {DROP_IN}; systemctl daemon-reload; {RESTART}"
TABLE_GONE = "nft delete table inet sabotage"
#: What A sends to the B without MPTCP arrives at the one that speaks it.
ELSEWHERE = """
nft 'add table ip sabotage; add chain ip sabotage c { type nat hook prerouting priority -110; };
add rule ip sabotage c ip daddr 198.18.10.32 tcp dport 7000 dnat to 198.18.10.31'
"""
#: The way to B's first address leads out by A-2, whose packets no fault for A-1 stops.
BY_A2 = "ip route add 198.18.1.31/32 via 198.18.2.1 dev eth2"
#: As soon as the check has taken B's announcements away, B announces another address.
ANNOUNCE = """
systemd-run --quiet --collect sh -c 'until [ -z "$(ip mptcp endpoint show)" ]; do sleep 0.02; done
ip mptcp endpoint add 198.18.10.31 id 99 dev eth4 signal'
"""


def at_the_port(rule: str) -> str:
    """Return the command that adds a rule for what comes to a proxy's first listener."""
    hook = "type filter hook input priority 0;"
    return (
        f"nft 'add table inet sabotage; add chain inet sabotage c {{ {hook} }};"
        f" add rule inet sabotage c tcp dport 7000 {rule}'"
    )


SABOTAGES = {
    "STATE-1 with MPTCP off": Sabotage(
        "STATE-1", "client", "sysctl -qw net.mptcp.enabled=0", "sysctl -qw net.mptcp.enabled=1", "client"
    ),
    "STATE-2 with a unit disabled": Sabotage(
        "STATE-2", "proxy1", "systemctl disable -q haproxy", "systemctl enable -q haproxy", "haproxy"
    ),
    "STATE-3 without the wrapper": Sabotage(
        "STATE-3", "proxy1", WRAPPER_GONE, WRAPPER_BACK, "no such listener"
    ),
    "DIRECT-1 where A-2 leads to B": Sabotage(
        "DIRECT-1[drop]", "client", BY_A2, "ip route del 198.18.1.31/32", "DID NOT RAISE"
    ),
    "DIRECT-2 where B announces after all": Sabotage(
        "DIRECT-2", "server1", ANNOUNCE, ENDPOINTS_BACK, "MP_JOIN"
    ),
    "DIRECT-8 without a second path": Sabotage(
        "DIRECT-8[cable-out-at-A]", "client", ENDPOINTS_GONE, ENDPOINTS_BACK, "subflows"
    ),
    "DIRECT-8 without a second path at B": Sabotage(
        "DIRECT-8[cable-out-at-B]", "client", ENDPOINTS_GONE, ENDPOINTS_BACK, "subflows"
    ),
    "DIRECT-3 without endpoints": Sabotage("DIRECT-3", "client", ENDPOINTS_GONE, ENDPOINTS_BACK, "subflows"),
    "DIRECT-3 with limits 0": Sabotage(
        "DIRECT-3", "server1", "ip mptcp limits set subflows 0", ENDPOINTS_BACK, "subflows"
    ),
    "DIRECT-3 with no dev and no rule": Sabotage(
        "DIRECT-3",
        "client",
        NO_DEV_NO_RULE,
        f"ip route del 198.18.3.0/24; systemctl restart mptcp-lab-network; {ENDPOINTS_BACK}",
        "no SYN was captured on eth",
    ),
    "DIRECT-4 without endpoints": Sabotage("DIRECT-4", "client", ENDPOINTS_GONE, ENDPOINTS_BACK, "subflows"),
    "DIRECT-7 without a second path": Sabotage(
        "DIRECT-7", "client", ENDPOINTS_GONE, ENDPOINTS_BACK, "subflows"
    ),
    "PROXY-1 without joins": Sabotage(
        "PROXY-1[haproxy-preload]",
        "proxy1",
        at_the_port("tcp option mptcp exists ip saddr 198.18.2.10 drop"),
        TABLE_GONE,
        "subflows",
    ),
    "PROXY-5 without a second path": Sabotage(
        "PROXY-5[nginx-preload]", "client", ENDPOINTS_GONE, ENDPOINTS_BACK, "subflows"
    ),
    "PROXY-16 without a second path": Sabotage(
        "PROXY-16[path-lost-nginx-native-download]", "client", ENDPOINTS_GONE, ENDPOINTS_BACK, "subflows"
    ),
    "DIRECT-9 without a second path": Sabotage(
        "DIRECT-9", "client", ENDPOINTS_GONE, ENDPOINTS_BACK, "subflows"
    ),
    "SPLIT-1 without a second path": Sabotage(
        "SPLIT-1[fullmesh]", "client", ENDPOINTS_GONE, ENDPOINTS_BACK, "subflows"
    ),
    "PROXY-7 with a proxy that refuses": Sabotage(
        "PROXY-7[haproxy-preload]", "proxy1", at_the_port("reject with tcp reset"), TABLE_GONE, "REFUSED"
    ),
    "GATEWAY-1 with a router that goes elsewhere": Sabotage(
        "GATEWAY-1", "gateway", ELSEWHERE, "nft delete table ip sabotage", "a connection at server2"
    ),
}


#: They run with `-m long` only. A path lost at B is seen red by test_sabotage_direct.py, too.
LONG = ("DIRECT-8 without a second path at B",)


ALWAYS = [sabotage for name, sabotage in SABOTAGES.items() if name not in LONG]


@pytest.mark.parametrize("sabotages", share_runs(ALWAYS))
def test_broken_lab_is_seen(configured: Configured, sabotages: list[Sabotage]) -> None:
    assert_seen(configured, *sabotages)


@pytest.mark.long
@pytest.mark.parametrize("name", LONG)
def test_what_another_sabotage_shows_too_is_seen(configured: Configured, name: str) -> None:
    assert_seen(configured, SABOTAGES[name])


@pytest.mark.parametrize("proxy", ["haproxy-preload", "nginx-native"])
def test_a_byte_changed_on_the_way_is_seen(configured: Configured, proxy: str) -> None:
    """PROXY-2: behind the proxy a byte of A's data is changed, its TCP checksum made right."""
    lab, case = configured.own.lab, f"PROXY-2[{proxy}-64KiB]"
    with (
        Probe.open(target(lab, lab.hosts["server2"])) as probe,
        leased_fault(probe, "flip", position=200, direction="in", dport=7000, ttl=60),
    ):
        red = configured.suite(f"--claim={case}")
    assert red.verdicts() == {case: "fail"}, red.output
    assert "not the same ones" in red.reason(case)
