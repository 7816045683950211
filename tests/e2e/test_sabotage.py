"""Every check is seen red: the lab is broken in the way the claim forbids, and mended again.

Each test breaks one thing on a converged lab, runs the check it is about, and expects a failure that says why.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.conftest import Configured

#: Claim, host, command that breaks, command that mends, what the reason must speak of.
SABOTAGES = {
    "DIRECT-2: MP_JOIN on an idle connection": (
        # server1 announces addresses again while the check has taken its endpoints away: by another endpoint
        "DIRECT-2", "server1", "ip mptcp endpoint add 198.18.10.31 dev eth4 signal", "ip mptcp endpoint delete id $(ip mptcp endpoint show | sed -n 's/^198.18.10.31 id \\([0-9]*\\).*/\\1/p')", "MP_JOIN"),
    "DIRECT-3: no endpoint": (
        "DIRECT-3", "client", "ip mptcp endpoint flush", "systemctl restart mptcp-lab-mptcp", "expected subflows"),
    "DIRECT-3: limits 0": (
        "DIRECT-3", "server1", "ip mptcp limits set subflows 0", "systemctl restart mptcp-lab-mptcp", "expected subflows"),
    "DIRECT-3: endpoint without dev and no rule": (
        "DIRECT-3", "client",
        "ip mptcp endpoint flush; ip mptcp endpoint add 198.18.2.10 subflow fullmesh; ip mptcp endpoint add 198.18.1.10 subflow fullmesh; ip rule flush; ip rule add pref 32766 lookup main",
        "systemctl restart mptcp-lab-network mptcp-lab-mptcp", "SYNs on eth"),
    "DIRECT-7: no second path": (
        "DIRECT-7", "client", "ip mptcp endpoint flush", "systemctl restart mptcp-lab-mptcp", "subflows"),
    "PROXY-1: wrapper removed": (
        "PROXY-1[haproxy-preload]", "proxy1",
        "mv /etc/systemd/system/haproxy.service.d /root/d; systemctl daemon-reload; systemctl restart haproxy",
        "mv /root/d /etc/systemd/system/haproxy.service.d; systemctl daemon-reload; systemctl restart haproxy", "subflows"),
    "PROXY-5: one path only": (
        "PROXY-5[nginx-preload]", "client", "ip mptcp endpoint flush", "systemctl restart mptcp-lab-mptcp", "subflows"),
    "PROXY-7: the proxy is down": (
        "PROXY-7[haproxy-preload]", "proxy1", "systemctl stop haproxy", "systemctl start haproxy", "ECONNREFUSED"),
    "GATEWAY-1: B speaks MPTCP": (
        "GATEWAY-1", "server2",
        "sysctl -qw net.mptcp.enabled=1; sed -i 's/\"tcp\"/\"mptcp\"/' /etc/mptcp-lab/origin-origin.json; systemctl restart mptcp-lab-origin@origin",
        "sysctl -qw net.mptcp.enabled=0; sed -i 's/\"mptcp\"/\"tcp\"/' /etc/mptcp-lab/origin-origin.json; systemctl restart mptcp-lab-origin@origin", "assert"),
}  # fmt: skip


@contextmanager
def broken(lab: Configured, host: str, command: str, mend: str) -> Iterator[None]:
    lab.own.ssh(host, command)
    try:
        yield
    finally:
        lab.own.ssh(host, mend)


@pytest.mark.parametrize(
    ("claim", "host", "command", "mend", "word"), SABOTAGES.values(), ids=SABOTAGES.keys()
)
def test_broken_lab_is_seen(
    configured: Configured, claim: str, host: str, command: str, mend: str, word: str
) -> None:
    with broken(configured, host, command, mend):
        red = configured.suite(f"--claim={claim}")
    assert set(red.verdicts().values()) == {"fail"}, red.output
    assert word in red.reason(claim), red.reason(claim)
    assert red.code == 1
    green = configured.suite(f"--claim={claim}")
    assert set(green.verdicts().values()) == {"pass"}, green.output
