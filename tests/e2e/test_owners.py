"""Owners of the path manager: NetworkManager takes the client over, keeps it, and gives it back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mptcp_lab.probe import eventually
from tests.e2e.conftest import Configured, run_tool
from tests.e2e.test_converge import changes

pytestmark = pytest.mark.long

OWNED = ("--limit=client", "-e", "lab_mptcp_owner=networkmanager")
INSTALL = (
    "mkdir -p /etc/NetworkManager/conf.d;"
    "printf '[main]\\nno-auto-default=*\\n' >/etc/NetworkManager/conf.d/10-here.conf;"
    "DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install network-manager"
)
PURGE = "DEBIAN_FRONTEND=noninteractive apt-get -qq -y purge network-manager; rm -rf /etc/NetworkManager"
ADDRESSES = {"198.18.1.10", "198.18.2.10", "2001:db8:1::10", "2001:db8:2::10"}


def endpoints(lab: Configured) -> set[str]:
    return {line.split()[0] for line in lab.own.ssh_may_fail("client", "ip mptcp endpoint").splitlines()}


def endpoints_of_all_paths(lab: Configured) -> None:
    """Wait until they are there: an IPv6 address is an endpoint once it is known to be nobody else's."""
    eventually(lambda: endpoints(lab), until=lambda now: now == ADDRESSES, within=60, what="four endpoints")


@pytest.fixture
def managed(configured: Configured) -> Iterator[Configured]:
    """A client that runs NetworkManager, as a machine with other things on it may."""
    configured.own.ssh("client", INSTALL)
    yield configured
    configured.play("--limit=client")
    assert endpoints(configured) == ADDRESSES
    assert ":connected" not in configured.own.ssh("client", "nmcli -t -f DEVICE,STATE device | grep eth")
    configured.own.ssh("client", PURGE)


def test_an_owner_that_does_not_run_is_refused(configured: Configured) -> None:
    refused = run_tool(configured.command(*OWNED))
    assert refused.returncode != 0
    assert "lab_mptcp_owner is networkmanager, and NetworkManager does not run there" in " ".join(
        refused.stdout.split()
    )


def test_network_manager_owns_the_endpoints_over_a_reboot(managed: Configured) -> None:
    own = managed.own
    managed.play(*OWNED)
    endpoints_of_all_paths(managed)
    assert "dev eth1 proto 71" not in own.ssh("client", "ip route show table all"), (
        "the lab's unit holds routes too"
    )
    assert changes(managed.play(*OWNED)) == {"0"}

    before = own.ssh("client", "cat /proc/sys/kernel/random/boot_id")
    own.ssh_may_fail("client", "reboot")
    eventually(
        lambda: own.ssh_may_fail("client", "cat /proc/sys/kernel/random/boot_id"),
        until=lambda now: now not in ("", before),
        within=60,
        what="client back with a new boot id",
    )
    endpoints_of_all_paths(managed)
    run = managed.suite("--claim=DIRECT-3")
    assert run.verdicts() == {"DIRECT-3": "pass"}, run.output
