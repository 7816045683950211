"""Every check is seen red: the lab is broken in the way the claim forbids, and mended again.

Each test breaks one thing on a converged lab, runs the check it is about, and expects it to fail.
"""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Configured
from tests.e2e.sabotage import Sabotage, assert_seen

ENDPOINTS_GONE = "ip mptcp endpoint flush"
ENDPOINTS_BACK = "systemctl restart mptcp-lab-mptcp"
#: Endpoints without a device, and no rule that sends their packets out by their own NIC. With a route to the
#: spare path every join comes up and every counter looks right: only captures show the wrong NIC.
NO_DEV_NO_RULE = """
ip mptcp endpoint flush
for address in 198.18.1.10 198.18.2.10; do ip mptcp endpoint add $address subflow fullmesh; done
ip rule flush; ip rule add pref 32766 lookup main; ip route add 198.18.3.0/24 dev eth1
"""
DROP_IN = "/etc/systemd/system/haproxy.service.d"
WRAPPER_GONE = f"mv {DROP_IN} /root/aside; systemctl daemon-reload; systemctl restart haproxy"
WRAPPER_BACK = f"mv /root/aside {DROP_IN}; systemctl daemon-reload; systemctl restart haproxy"
ORIGIN = "/etc/mptcp-lab/origin-origin.json"
MPTCP_ON = f"""
sysctl -qw net.mptcp.enabled=1; sed -i s/tcp/mptcp/ {ORIGIN}; systemctl restart mptcp-lab-origin@origin
"""
MPTCP_OFF = f"""
sed -i s/mptcp/tcp/ {ORIGIN}; systemctl restart mptcp-lab-origin@origin; sysctl -qw net.mptcp.enabled=0
"""

SABOTAGES = {
    "DIRECT-3 without endpoints": Sabotage("DIRECT-3", "client", ENDPOINTS_GONE, ENDPOINTS_BACK, "subflows"),
    "DIRECT-3 with limits 0": Sabotage(
        "DIRECT-3", "server1", "ip mptcp limits set subflows 0", ENDPOINTS_BACK, "subflows"
    ),
    "DIRECT-3 with no dev and no rule": Sabotage(
        "DIRECT-3",
        "client",
        NO_DEV_NO_RULE,
        f"ip route del 198.18.3.0/24; systemctl restart mptcp-lab-network; {ENDPOINTS_BACK}",
        "SYNs on eth",
    ),
    "DIRECT-4 without endpoints": Sabotage("DIRECT-4", "client", ENDPOINTS_GONE, ENDPOINTS_BACK, "subflows"),
    "DIRECT-7 without a second path": Sabotage(
        "DIRECT-7", "client", ENDPOINTS_GONE, ENDPOINTS_BACK, "subflows"
    ),
    "PROXY-1 without the wrapper": Sabotage(
        "PROXY-1[haproxy-preload]", "proxy1", WRAPPER_GONE, WRAPPER_BACK, "subflows"
    ),
    "PROXY-5 without a second path": Sabotage(
        "PROXY-5[nginx-preload]", "client", ENDPOINTS_GONE, ENDPOINTS_BACK, "subflows"
    ),
    "PROXY-7 with the proxy down": Sabotage(
        "PROXY-7[haproxy-preload]", "proxy1", "systemctl stop haproxy", "systemctl start haproxy", "REFUSED"
    ),
    "GATEWAY-1 with a B that speaks MPTCP": Sabotage("GATEWAY-1", "server2", MPTCP_ON, MPTCP_OFF, "is_mptcp"),
}


@pytest.mark.parametrize("sabotage", SABOTAGES.values(), ids=SABOTAGES.keys())
def test_broken_lab_is_seen(configured: Configured, sabotage: Sabotage) -> None:
    assert_seen(configured, sabotage)
