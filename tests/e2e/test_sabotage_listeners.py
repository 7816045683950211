"""The checks of DIRECT-17 (and STATE-3) seen red: listeners of the probe and of proxies."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Configured
from tests.e2e.sabotage import Sabotage, assert_seen, filtered, with_marks

JOIN = "tcp flags & (syn | ack) == syn tcp option mptcp subtype mp-join"


#: The proxy's configuration loses its socket on all addresses and gets one for a single address.
NARROWED = """
cp -p /etc/haproxy/haproxy.cfg /root/aside
sed -i 's/bind :7050/bind 198.18.1.21:7050/' /etc/haproxy/haproxy.cfg
systemctl restart haproxy
"""
WIDENED = "mv /root/aside /etc/haproxy/haproxy.cfg; systemctl restart haproxy"

SABOTAGES = {
    "joins are dropped": filtered(
        "DIRECT-17[wildcard]", "server1", "input", f"{JOIN} drop", "a join to 198.18.2.31: not within"
    ),
    "RSTs are dropped": filtered(
        "DIRECT-17[one-address]",
        "server1",
        "output",
        "ip saddr 198.18.2.31 tcp flags & rst == rst drop",
        "B did not answer the join with RST",
    ),
    "a firewall rejects joins": filtered(
        "DIRECT-17[two-addresses]",
        "server1",
        "input",
        f"{JOIN} reject with tcp reset",
        "a join to 198.18.2.31: not within",
    ),
    "a proxy on one address": Sabotage(
        "STATE-3",
        "proxy1",
        NARROWED,
        WIDENED,
        "test1-wildcard on 0.0.0.0 port 7050 is to be MPTCP (mptcp: preload), nothing listens",
    ),
    "joins to a proxy are dropped": filtered(
        "DIRECT-17[haproxy-wildcard]",
        "proxy1",
        "input",
        f"ip daddr 198.18.2.21 {JOIN} drop",
        "expected subflows are missing",
    ),
    "a proxy without IPv6": filtered(
        "DIRECT-17[nginx-dual-stack]",
        "proxy1",
        "input",
        f"meta nfproto ipv6 {JOIN} drop",
        "expected subflows are missing",
    ),
}
#: The others wait ten seconds for what does not come.
ALWAYS = ("RSTs are dropped", "a proxy on one address")


@pytest.mark.parametrize("sabotage", with_marks(SABOTAGES, ALWAYS))
def test_broken_lab_is_seen(configured: Configured, sabotage: Sabotage) -> None:
    assert_seen(configured, sabotage)
