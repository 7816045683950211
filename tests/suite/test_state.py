"""Test the rules that report how a host differs from what the playbooks configure."""

from __future__ import annotations

from typing import Any

import pytest

from mptcp_lab.suite.state.drift import differences
from mptcp_lab.suite.state.forwarding import filter_faults
from mptcp_lab.suite.traces import advertised_entries, without_advertised

PRINTED = """
TASK [mptcp : Write and apply settings, limits and endpoints] ******************
--- before: net.mptcp.enabled (live)
+++ after: net.mptcp.enabled (live)
@@ -1 +1 @@
-net.mptcp.enabled = 0
+net.mptcp.enabled = 1

--- before: mptcp-lab-mptcp.service: endpoints (live)
+++ after: mptcp-lab-mptcp.service: endpoints (live)
@@ -0,0 +1,2 @@
+198.18.1.10 id 1 dev eth1 fullmesh subflow
+198.18.2.10 id 3 dev eth2 fullmesh subflow

mptcp-lab-mptcp.service: restart

changed: [client]
TASK [origin : Have the program installed] *************************************
--- before: /etc/x
+++ after: /etc/x
{lines}
changed: [server1]
changed: [server2]
"""


def test_every_live_difference_is_named_and_long_files_are_shortened() -> None:
    found = differences(PRINTED.format(lines="\n".join(f"+line {number}" for number in range(9))))
    assert found[:5] == [
        "client: net.mptcp.enabled (live): -net.mptcp.enabled = 0",
        "client: net.mptcp.enabled (live): +net.mptcp.enabled = 1",
        "client: mptcp-lab-mptcp.service: endpoints (live): +198.18.1.10 id 1 dev eth1 fullmesh subflow",
        "client: mptcp-lab-mptcp.service: endpoints (live): +198.18.2.10 id 3 dev eth2 fullmesh subflow",
        "client: mptcp-lab-mptcp.service: restart",
    ]
    assert found[5:] == [
        *(f"server1: /etc/x: +line {number}" for number in range(6)),
        "server1: /etc/x: and 3 more lines",
        "server2: Have the program installed".replace("Have", "origin : Have"),
    ]


def chain(policy: str = "drop", **more: Any) -> dict[str, Any]:
    return {"chain": {"table": "mptcp_lab_gateway", "hook": "forward", "policy": policy, **more}}


def rule(**devices: Any) -> dict[str, Any]:
    expressions: list[dict[str, Any]] = [
        {"match": {"op": "==", "left": {"meta": {"key": key}}, "right": right}}
        for key, right in devices.items()
    ]
    return {"rule": {"table": "mptcp_lab_gateway", "handle": 5, "expr": [*expressions, {"accept": None}]}}


BOTH = {"set": ["eth1", "eth2"]}


@pytest.mark.parametrize(
    ("entries", "word"),
    [
        ([], "has no chain"),
        ([chain("accept"), rule(iifname=BOTH, oifname=BOTH)], "the policy of its chain is accept"),
        ([chain(), rule(iifname=BOTH)], "names no oifname"),
        ([chain(), rule(iifname={"set": ["eth0", "eth1", "eth2"]}, oifname=BOTH)], "packets of eth0"),
        ([chain(), rule(iifname=BOTH, oifname="eth1")], "does not forward packets of eth2"),
    ],
)
def test_a_filter_that_lets_others_through_is_named(entries: list[dict[str, Any]], word: str) -> None:
    assert word in "; ".join(filter_faults("gateway", {"eth1", "eth2"}, entries))


def test_a_filter_of_the_lab_s_nics_is_right() -> None:
    entries = [chain(), rule(iifname=BOTH, oifname=BOTH)]
    assert list(filter_faults("gateway", {"eth1", "eth2"}, entries)) == []


OWN = {"family": "inet6", "local": "2001:db8:1::10", "prefixlen": 64}
THEIRS = {"family": "inet6", "local": "2001:db8:bad::9", "prefixlen": 64, "dynamic": True}
ROUTES = [
    {"dst": "2001:db8:1::/64", "dev": "eth1", "protocol": "kernel"},
    {"dst": "default", "gateway": "fe80::66", "dev": "eth1", "protocol": "ra"},
    {"dst": "2001:db8:bad::/64", "dev": "eth1", "protocol": "ra"},
    {"dst": "2001:db8:bad::9", "dev": "eth1", "table": "local", "protocol": "kernel"},
]


def test_what_an_advertisement_brought_is_told_apart() -> None:
    state = {"addresses": [{"ifname": "eth1", "addr_info": [OWN, THEIRS]}], "routes6": ROUTES, "nft": []}
    assert [what for what, _ in advertised_entries(state) if what] == [
        "address 2001:db8:bad::9/64 on eth1",
        "route default via fe80::66 on eth1",
        "route 2001:db8:bad::/64 on eth1",
    ]
    assert without_advertised(state) == {
        "addresses": [{"ifname": "eth1", "addr_info": [OWN]}],
        "routes6": ROUTES[:1],
        "nft": [],
    }
    assert without_advertised({"ports": {}}) == {"ports": {}}
