"""The checks of proxies are seen red: a proxy is configured, or replaced, so that the claim does not hold."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Configured
from tests.e2e.sabotage import Sabotage, assert_seen

DROP_IN = "/etc/systemd/system/haproxy.service.d/sabotage.conf"
#: A reload that lets the process that holds the connections be killed. Were it killed during the reload,
#: systemd could call the reload failed.
KILLS = "systemd-run --quiet --collect --no-block pkill -9 -P $MAINPID"
KILLING_RELOAD = f"""printf '[Service]\\nExecReload=\\nExecReload={KILLS}\\n' > {DROP_IN}
systemctl daemon-reload"""
FILES = {"haproxy": "/etc/haproxy/haproxy.cfg", "nginx": "/etc/nginx/nginx.conf"}


def edited(claim: str, engine: str, old: str, new: str, word: str, host: str = "proxy1") -> Sabotage:
    """Replace a piece of a proxy's configuration, and restart the proxy."""
    file = FILES[engine]
    restart = f"systemctl reset-failed {engine}; systemctl restart {engine}"  # forget how often it started
    command = f"cp -p {file} {file}.aside; sed -i 's/{old}/{new}/' {file}; {restart}"
    return Sabotage(claim, host, command, f"mv {file}.aside {file}; {restart}", word)


#: What comes for the proxy is forwarded to the backend instead.
FORWARD = """nft -f - <<'X'
table ip sabotage {
  chain to { type nat hook prerouting priority -110; iifname eth1 tcp dport 7000 dnat to 198.18.10.32:7000; }
  chain from { type nat hook postrouting priority 90; oifname eth3 masquerade; }
}
X"""

TO_MPTCP = """nft -f - <<'X'
table ip sabotage {
  chain to { type nat hook prerouting priority -110; tcp dport 7004 redirect to :7000; }
}
X"""

SABOTAGES = {
    "PROXY-3 with a longer idle timeout": edited(
        "PROXY-3[idle-haproxy-preload]",
        "haproxy",
        "\\(client\\|server\\) 1500ms",
        "\\1 6s",
        "the idle timeout is 1.5 s",
    ),
    "PROXY-4 with a forwarder in the proxy's place": Sabotage(
        "PROXY-4[haproxy-preload]", "proxy1", FORWARD, "nft delete table ip sabotage", "DATA_ACKed"
    ),
    "PROXY-6 without the PROXY protocol": edited(
        "PROXY-6[with-ipv4-haproxy-preload-v1]", "haproxy", " send-proxy$", "", "a connection at"
    ),
    "PROXY-8 with equal weights": edited(
        "PROXY-8[weight-preload]", "nginx", "weight=3", "weight=1", "(10, 10)"
    ),
    "PROXY-8 without a hash": edited(
        "PROXY-8[hash-preload]", "nginx", "\\thash ", "\\t#hash ", "were spread"
    ),
    "PROXY-8 with a backend never left out": edited(
        "PROXY-8[dead-backend-preload]", "nginx", "max_fails=1", "max_fails=0", "was not left out"
    ),
    "PROXY-9 with a reload that kills the worker": Sabotage(
        "PROXY-9[reload-haproxy-preload]",
        "proxy1",
        KILLING_RELOAD,
        f"rm {DROP_IN}; systemctl daemon-reload; systemctl restart haproxy",
        "more octets at",
    ),
    "PROXY-10 with too few connections": edited(
        "PROXY-10[at-once-nginx-preload]",
        "nginx",
        "worker_connections 1024",
        "worker_connections 64",
        "not all",
    ),
    # The listener is what the inventory asks for: what comes for it goes to one that speaks MPTCP.
    "PROXY-12 with MPTCP enabled": Sabotage(
        "PROXY-12[haproxy]", "proxy2", TO_MPTCP, "nft delete table ip sabotage", "MP_CAPABLE"
    ),
}


@pytest.mark.parametrize("sabotage", SABOTAGES.values(), ids=SABOTAGES.keys())
def test_broken_proxy_is_seen(configured: Configured, sabotage: Sabotage) -> None:
    assert_seen(configured, sabotage)
