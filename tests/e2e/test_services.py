"""Test that services which leave the inventory leave the hosts too, and come back with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.e2e.conftest import Configured
from tests.e2e.test_converge import changes

pytestmark = pytest.mark.long

HOSTS = "--limit=proxy1,server2"


def without(children: dict[str, Any]) -> None:
    """Take from proxy1 its HAProxy, its forwarder, one nginx service and a path; from server2 an origin."""
    proxies = children["proxies"]["hosts"]
    proxy1, server2 = proxies["proxy1"], children["origins"]["hosts"]["server2"]
    proxy1["lab_services"] = [
        s for s in proxy1["lab_services"] if s["name"] in ("testtcp", "testtcp-short-timeouts")
    ]
    proxy1["lab_nics"][1]["state"] = "down"
    server2["lab_services"] = [s for s in server2["lab_services"] if s["name"] != "seen"]
    gone = {"host": "server2", "port": 7002}
    for proxy in proxies.values():
        proxy["lab_services"] = [
            s
            for s in proxy["lab_services"]
            if gone not in s["backends"] and not any("service" in each for each in s["backends"])
        ]


@contextmanager
def edited(configured: Configured) -> Iterator[None]:
    """A lab converged after the edit; put back and converged again at the end."""
    inventory = configured.own.folder / "hosts.yml"
    before = inventory.read_text()
    configured.own.edit(without)
    try:
        yield
    finally:
        inventory.write_text(before)
        configured.play(HOSTS)


def listening(configured: Configured, host: str) -> set[int]:
    lines = configured.own.ssh(host, "ss -Hltn").splitlines()
    return {int(line.split()[3].rpartition(":")[2]) for line in lines}


def test_what_leaves_the_inventory_leaves_the_hosts(configured: Configured) -> None:
    ssh = configured.own.ssh
    assert {7000, 7100, 7200} <= listening(configured, "proxy1")
    with edited(configured):
        foretold = configured.play("--check", HOSTS)
        assert "0" not in changes(foretold), "check mode says that nothing would go"
        assert {7000, 7100, 7200} <= listening(configured, "proxy1"), "check mode touched the host"

        configured.play(HOSTS)
        assert listening(configured, "proxy1") == {7100, 7101}
        units = "haproxy mptcp-lab-forward nginx"
        assert configured.own.ssh_may_fail("proxy1", f"systemctl is-active {units}").split() == [
            "inactive",
            "inactive",
            "active",
        ]
        assert configured.own.ssh_may_fail("proxy1", "systemctl is-enabled haproxy").strip() == "disabled"
        files = "/etc/systemd/system/haproxy.service.d /etc/mptcp-lab"
        assert configured.own.ssh_may_fail("proxy1", f"ls -d {files}") == ""
        # What the package brought is back in its place.
        assert configured.own.ssh_may_fail("proxy1", "dpkg --verify haproxy | grep ' /etc/'") == ""
        assert "mptcp_lab" not in ssh("proxy1", "nft list tables")
        assert ssh("proxy1", "sysctl --values net.ipv4.ip_forward").strip() == "0"
        endpoints = ssh("proxy1", "ip mptcp endpoint show")
        assert "dev eth1" in endpoints
        assert "dev eth2" not in endpoints

        assert listening(configured, "server2") == {7000}
        assert "seen" not in ssh(
            "server2", "ls /etc/mptcp-lab; systemctl list-units --all 'mptcp-lab-origin@*'"
        )

        assert changes(configured.play(HOSTS)) == {"0"}
    run = configured.suite(
        "--claim=STATE-2", "--claim=STATE-3", "--claim=PROXY-1[*preload]", "--claim=SPLIT-1"
    )
    assert set(run.verdicts().values()) == {"pass"}, run.output
