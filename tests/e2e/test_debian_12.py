"""Hosts with Debian 12 beside ones with Debian 13: the older programs and systemd, configured and checked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.conftest import Configured
from tests.labs import own_lab

pytestmark = pytest.mark.long
OLDER = ("client", "proxy1", "gateway", "server1")
CLAIMS = ("DIRECT-3", "DIRECT-7", "PROXY-1", "PROXY-5", "GATEWAY-*", "STATE-*")


def make_older(groups: dict) -> None:
    """Give some hosts of an inventory the older image."""
    for group in groups.values():
        for name, host in (group.get("hosts") or {}).items():
            if name in OLDER:
                host["lab_image"] = "debian-12"


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Configured]:
    own = own_lab(tmp_path_factory.mktemp("inventory") / "mixed", "test-mixed")
    own.edit(make_older)
    own.down()
    lab = Configured(own, tmp_path_factory.mktemp("results"))
    try:
        lab.own.up()
        lab.first_play = lab.play()
        yield lab
    finally:
        own.down()
    assert own.traces() == []


def test_each_host_is_of_its_own_system(mixed: Configured) -> None:
    for name in mixed.own.lab.hosts:
        number = "12" if name in OLDER else "13"
        assert f'VERSION_ID="{number}"' in mixed.own.ssh(name, "cat /etc/os-release")
        assert mixed.own.ssh(name, "systemctl is-system-running --wait").strip() == "running"
    assert "2.6." in mixed.own.ssh("proxy1", "haproxy -v")
    assert "1.22." in mixed.own.ssh("proxy1", "nginx -v 2>&1")


def test_a_second_run_changes_nothing(mixed: Configured) -> None:
    again = mixed.play()
    recap = [line for line in again.splitlines() if "changed=" in line]
    assert recap and all("changed=0" in line and "failed=0" in line for line in recap), again


def test_its_claims_hold(mixed: Configured) -> None:
    run = mixed.suite(*(word for claim in CLAIMS for word in ("--claim", claim)))
    bad = {
        case: verdict for case, verdict in run.verdicts().items() if verdict not in ("pass", "unsupported")
    }
    assert run.verdicts() and bad == {}, run.output
