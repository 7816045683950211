"""The SECURITY checks are seen red: the attacker has what a defence withholds, or its packets are lost."""

from __future__ import annotations

import pytest

from mptcp_lab.paths import ROOT
from tests.e2e.conftest import Configured
from tests.e2e.sabotage import broken

#: With tests/e2e/armed_attacker.py: cases, their verdicts, and a word that each reason must have.
ARMED = {
    "SECURITY-1": ("fail", "0 MPJoinAckHMacFailure"),
    "SECURITY-2[none]": ("non-strict", "the attacker's join was refused"),
    "SECURITY-3[on-path]": ("fail", "forged ADD_ADDR was obeyed"),
    "SECURITY-4[options]": ("fail", "subflows of other paths are lost"),
    "SECURITY-5[with-checksums]": ("non-strict", "not the same ones"),
    "SECURITY-7[other-ports]": ("fail", "16 joins came to the third party, 4 are allowed"),
    "SECURITY-8[nginx-native]": ("non-strict", "was served"),
    "SECURITY-9[nginx-native]": ("fail", "processes of proxy2 ended"),
    "SECURITY-10[DATA_FIN]": ("non-strict", "an open stream at the server"),
}
ARMED_TOO = {
    "SECURITY-2[limits]": ("non-strict", "the attacker's join was accepted"),
    "SECURITY-3[off-path]": ("fail", "forged ADD_ADDR was obeyed"),
    "SECURITY-4[drop]": ("fail", "subflows of other paths are lost"),
    "SECURITY-4[payload]": ("fail", "DataCsumErr"),
    "SECURITY-5[without-checksums]": ("non-strict", "did not reach the application"),
    "SECURITY-8[haproxy-native]": ("non-strict", "subflows, with one from"),
}
#: With nothing of the attacker's reaching B: no case may pass because no attack took place.
UNHEARD = {
    "SECURITY-1": ("fail", "RST of a guessed token"),
    "SECURITY-2[checksums]": ("non-strict", "the attacker's join was refused"),
    "SECURITY-6[MP_JOIN]": ("fail", "MPJoinSynRx"),
    "SECURITY-9[direct]": ("fail", "SYN/ACK did not come"),
}
#: With a server that has no SYN cookies, and room for few half-open connections of strangers.
FLOODED = {"SECURITY-6[MP_CAPABLE]": ("fail", "of 20 connections 0 were served")}
SHORT_QUEUE = (
    "sysctl -n net.ipv4.tcp_max_syn_backlog > /run/max-syn-backlog"
    " && sysctl -qw net.ipv4.tcp_syncookies=0 net.ipv4.tcp_max_syn_backlog=64 net.ipv4.tcp_no_metrics_save=1"
    " && ip tcp_metrics flush"
)
LONG_QUEUE = (
    "sysctl -qw net.ipv4.tcp_syncookies=1 net.ipv4.tcp_no_metrics_save=0"
    " net.ipv4.tcp_max_syn_backlog=$(cat /run/max-syn-backlog) && rm /run/max-syn-backlog"
)
DROP = "nft -f - <<'X'\nadd table inet sabotage\n" + (
    "add chain inet sabotage input { type filter hook input priority -200; }\n"
    "add rule inet sabotage input ip saddr { 198.18.1.66, 198.18.2.66 } drop\nX"
)


def assert_red(configured: Configured, expected: dict[str, tuple[str, str]], *options: str) -> None:
    """Assert that each case has its verdict, with its word in the reason."""
    red = configured.suite("--strict", *options, *(f"--claim={case}" for case in expected))
    assert red.verdicts() == {case: verdict for case, (verdict, _) in expected.items()}, red.output
    missing = {case: red.reason(case) for case, (_, word) in expected.items() if word not in red.reason(case)}
    assert not missing, missing


@pytest.mark.parametrize(
    "expected", [ARMED, pytest.param(ARMED_TOO, marks=pytest.mark.long)], ids=["one-per-claim", "others"]
)
def test_attacker_that_succeeds_is_seen(
    configured: Configured, monkeypatch: pytest.MonkeyPatch, expected: dict[str, tuple[str, str]]
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert_red(configured, expected, "-p", "tests.e2e.armed_attacker")


def test_attacker_that_nobody_hears_is_seen(configured: Configured) -> None:
    with broken(configured, "server1", DROP, "nft delete table inet sabotage"):
        assert_red(configured, UNHEARD)


def test_server_that_a_flood_fills_is_seen(configured: Configured) -> None:
    with broken(configured, "server1", SHORT_QUEUE, LONG_QUEUE):
        assert_red(configured, FLOODED)
