"""A change of a host's network that nobody confirmed: taken back in time, and never applied at boot."""

from __future__ import annotations

from mptcp_lab.probe import eventually
from tests.e2e.conftest import Configured
from tests.e2e.test_converge import changes

HOST = "server2"
SCRIPT = "/usr/local/sbin/mptcp-lab-network"
#: The same as lab.yml leaves it when it is killed before it confirms: another address is in the script.
CHANGE = f"sed -i.kept 's#198.18.10.32/24#198.18.10.99/24#' {SCRIPT} && rm {SCRIPT}.kept"
BEGIN = "/usr/local/sbin/mptcp-lab-confirmed begin"
ADDRESSES = "ip -4 -brief address show dev eth1"
BOOT = "cat /proc/sys/kernel/random/boot_id"


def reboot(lab: Configured) -> None:
    """Reboot the host, and wait until its units have settled."""
    before = lab.own.ssh(HOST, BOOT)
    lab.own.ssh_may_fail(HOST, "reboot")
    eventually(lambda: lab.own.ssh_may_fail(HOST, BOOT), until=lambda now: now not in ("", before), within=60)
    lab.own.ssh_may_fail(HOST, "systemctl is-system-running --wait")


def test_an_unconfirmed_change_is_not_applied_at_boot(configured: Configured) -> None:
    """Begun, applied, in force, and then the host reboots: it comes up with what was confirmed last."""
    digest = configured.own.ssh(HOST, f"sha256sum {SCRIPT}")
    configured.own.ssh(HOST, f"{CHANGE} && {BEGIN} 600 && systemctl restart mptcp-lab-network")
    assert "198.18.10.99/24" in configured.own.ssh(HOST, ADDRESSES)
    reboot(configured)
    assert "198.18.10.32/24" in configured.own.ssh(HOST, ADDRESSES)
    assert configured.own.ssh(HOST, f"sha256sum {SCRIPT}") == digest


def test_a_change_that_was_only_written_is_not_applied_at_boot(configured: Configured) -> None:
    """A run that was killed between the file and the way back: nothing is armed."""
    digest = configured.own.ssh(HOST, f"sha256sum {SCRIPT}")
    configured.own.ssh(HOST, CHANGE)
    reboot(configured)
    assert "198.18.10.32/24" in configured.own.ssh(HOST, ADDRESSES)
    assert configured.own.ssh(HOST, f"sha256sum {SCRIPT}") == digest


def test_a_first_change_that_nobody_confirmed_leaves_nothing_at_boot(configured: Configured) -> None:
    configured.own.ssh(HOST, "rm -r /var/lib/mptcp-lab/network /var/lib/mptcp-lab/network.*")
    reboot(configured)
    assert "198.18" not in configured.own.ssh(HOST, ADDRESSES)
    assert configured.own.ssh(HOST, f"ls {SCRIPT} 2>/dev/null || echo none").strip() == "none"
    configured.play(f"--limit={HOST}")
    assert "198.18.10.32/24" in configured.own.ssh(HOST, ADDRESSES)
    assert changes(configured.play(f"--limit={HOST}")) == {"0"}


def test_the_way_back_puts_the_confirmed_change_in_force(configured: Configured) -> None:
    digest = configured.own.ssh(HOST, f"sha256sum {SCRIPT}")
    configured.own.ssh(HOST, f"{CHANGE} && {BEGIN} 2 && systemctl restart mptcp-lab-network")
    eventually(
        lambda: configured.own.ssh(HOST, ADDRESSES), until=lambda now: "198.18.10.32/24" in now, within=30
    )
    assert "198.18.10.99/24" not in configured.own.ssh(HOST, ADDRESSES)
    assert configured.own.ssh(HOST, f"sha256sum {SCRIPT}") == digest
    eventually(
        lambda: configured.own.ssh_may_fail(HOST, "systemctl is-active mptcp-lab-mptcp").strip(),
        until=lambda state: state == "active",
        within=30,
    )
    configured.play(f"--limit={HOST}")
    assert changes(configured.play(f"--limit={HOST}")) == {"0"}
