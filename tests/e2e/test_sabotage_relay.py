"""The checks of RELAY are seen red: a proxy, a path or B is changed so that the claim does not hold."""

from __future__ import annotations

import pytest

from mptcp_lab.machines.reach import target
from mptcp_lab.probe import Probe
from tests.e2e.conftest import Configured
from tests.e2e.sabotage import Sabotage, assert_seen
from tests.e2e.test_sabotage_proxy import TO_MPTCP, edited
from tests.labs import leased_fault

TABLE_GONE = "nft delete table ip sabotage"
#: The SYN of the second proxy to B has REMOVE_ADDR in the place of its first TCP option.
OPTIONED = (
    "nft 'add table ip sabotage; add chain ip sabotage c { type filter hook output priority 0; };"
    " add rule ip sabotage c ip daddr 198.18.10.32 tcp dport 7000 tcp flags syn"
    " tcp option maxseg size > 0 @th,160,32 set 0x1e044001'"
)
#: B announces an address, and takes it back, again and again.
RESTLESS = """systemd-run -q --unit=sabotage sh -c 'while :; do
ip mptcp endpoint add 198.18.99.1 id 99 dev eth4 signal; sleep 0.02; ip mptcp endpoint del id 99; done'"""
AT_REST = "systemctl stop sabotage; ip mptcp endpoint del id 99 2>/dev/null; true"


def at_proxy1(rule: str) -> str:
    """Return the command that adds a rule for what the other proxy sends to the first listener."""
    return (
        "nft 'add table ip sabotage; add chain ip sabotage c { type filter hook input priority 0; };"
        f" add rule ip sabotage c tcp dport 7000 ip saddr 198.18.2.22 {rule} drop'"
    )


SABOTAGES = {
    "RELAY-1 with an MPTCP option to B": Sabotage(
        "RELAY-1[haproxy-preload-to-nginx-native]",
        "proxy2",
        OPTIONED,
        TABLE_GONE,
        "MPTCP options on the server's leg",
    ),
    # The listener is what the inventory asks for: what comes for it goes to one that speaks MPTCP.
    "RELAY-4 with MPTCP at the second proxy": Sabotage(
        "RELAY-4[haproxy-preload-to-haproxy-off]", "proxy2", TO_MPTCP, TABLE_GONE, "MP_CAPABLE"
    ),
    "RELAY-6 with a second proxy that ignores the header": edited(
        "RELAY-6[haproxy-preload-to-nginx-native]",
        "nginx",
        "set_real_ip_from",
        "#set_real_ip_from",
        "not A's own address",
        host="proxy2",
    ),
    "RELAY-7 with a shorter idle timeout": edited(
        "RELAY-7[idle]", "haproxy", "\\(client\\|server\\) 1500ms", "\\1 200ms", "of 6 octets", host="proxy2"
    ),
    "RELAY-8 with a B that changes its addresses": Sabotage(
        "RELAY-8[haproxy-native-front-path-lost]",
        "server1",
        RESTLESS,
        AT_REST,
        "the loss shows on the leg that lost nothing",
    ),
}
#: Each of these waits until a timeout of the check is over.
LONG = {
    "RELAY-1 with plain TCP between the proxies": edited(
        "RELAY-1[haproxy-native-to-haproxy-preload]",
        "haproxy",
        "mptcp4@198.18.1.21:7000",
        "198.18.1.21:7000",
        "these subflows did not come up",
        host="proxy2",
    ),
    "RELAY-1 without joins": Sabotage(
        "RELAY-1[haproxy-native-to-haproxy-preload]",
        "proxy1",
        at_proxy1("tcp option mptcp exists"),
        TABLE_GONE,
        "these subflows did not come up: 198.18.2.22 > 198.18.2.21",
    ),
    "RELAY-3 with a second path that carries no data": Sabotage(
        "RELAY-3[haproxy-native-to-haproxy-preload-upload-cable-out-at-B]",
        "proxy1",
        at_proxy1("ip length > 300"),
        TABLE_GONE,
        "the stream goes on while the path is lost",
    ),
    "RELAY-8 with plain TCP to B": edited(
        "RELAY-8[haproxy-native-back-path-lost]",
        "haproxy",
        "mptcp4@198.18.1.31",
        "198.18.1.31",
        "these subflows did not come up",
        host="proxy2",
    ),
}


@pytest.mark.parametrize("sabotage", SABOTAGES.values(), ids=SABOTAGES.keys())
def test_broken_relay_is_seen(configured: Configured, sabotage: Sabotage) -> None:
    assert_seen(configured, sabotage)


@pytest.mark.long
@pytest.mark.parametrize("sabotage", LONG.values(), ids=LONG.keys())
def test_broken_relay_is_seen_in_the_end(configured: Configured, sabotage: Sabotage) -> None:
    assert_seen(configured, sabotage)


@pytest.mark.parametrize(
    "case",
    [
        "RELAY-2[haproxy-native-to-haproxy-preload-upload]",
        "RELAY-3[haproxy-native-to-haproxy-preload-upload-cable-out-at-B]",
    ],
)
def test_a_byte_changed_on_the_way_is_seen(configured: Configured, case: str) -> None:
    """RELAY-2 and RELAY-3: behind both proxies a byte of A's data is changed, its TCP checksum made right."""
    lab = configured.own.lab
    with (
        Probe.open(target(lab, lab.hosts["server2"])) as probe,
        leased_fault(probe, "flip", position=200, direction="in", dport=7000, ttl=60),
    ):
        red = configured.suite(f"--claim={case}")
    assert red.verdicts() == {case: "fail"}, red.output
    assert "not the same" in red.reason(case)
