"""The checks of DIRECT-21 to DIRECT-26 seen red."""

from __future__ import annotations

import subprocess

import pytest

from tests.e2e.conftest import Configured
from tests.e2e.sabotage import Sabotage, assert_seen, filtered

HOOK = "type filter hook {} priority 0;"
TABLE_GONE = "nft delete table inet sabotage"
#: Data gets through between A-1 and B's first address only; handshakes get through everywhere.
ONE_WAY = (
    f"nft 'add table inet sabotage; add chain inet sabotage c {{ {HOOK.format('input')} }};"
    " add rule inet sabotage c ip daddr 198.18.2.31 meta length > 300 drop;"
    " add rule inet sabotage c ip saddr 198.18.2.10 meta length > 300 drop'"
)
#: The tracker sees nothing of what B sends.
UNTRACKED = (
    "nft 'add table inet sabotage; add chain inet sabotage c { type filter hook output priority raw; };"
    " add rule inet sabotage c meta l4proto tcp notrack'"
)
#: Another program sets the path manager back as soon as somebody sets it.
SET_BACK = (
    "systemd-run -q --unit=sabotage sh -c 'while :; do echo kernel >/proc/sys/net/mptcp/path_manager; done'"
)
NOT_SET_BACK = "systemctl stop sabotage"
#: A program changes A-2 to a backup and back all the time.
RESTLESS = (
    "systemd-run -q --unit=sabotage sh -c 'while :; do ip mptcp endpoint change id 3 backup fullmesh;"
    " ip mptcp endpoint change id 3 nobackup fullmesh; done'"
)
AT_REST = "systemctl stop sabotage; systemctl restart mptcp-lab-mptcp"
#: The end comes sooner than the check asks for.
SOONER = SET_BACK.replace("echo kernel", "echo 1").replace("path_manager", "close_timeout")
#: The spare NIC's joins do not reach B.
UNREACHED = (
    f"nft 'add table inet sabotage; add chain inet sabotage c {{ {HOOK.format('input')} }};"
    " add rule inet sabotage c ip saddr 198.18.3.10 drop'"
)

#: To the kernel a monitor of events is a daemon.
MONITORED = "systemd-run -q --unit=sabotage ip mptcp monitor"
NO_MORE_ADDRESSES = "ip mptcp limits set subflows 8 add_addr_accepted 0"

#: What MPTCP sends over the better path does not reach B; plain TCP does.
MPTCP_STARVED = (
    f"nft 'add table inet sabotage; add chain inet sabotage c {{ {HOOK.format('input')} }};"
    " add rule inet sabotage c ip saddr 198.18.1.10 tcp option mptcp exists meta length > 300 drop'"
)
#: The second link carries less than its rate.
SLOWED = "198.18.2.10 limit rate over 300 kbytes/second drop"

SABOTAGES = (
    Sabotage("DIRECT-22[close-timeout]", "client", SOONER, NOT_SET_BACK, "ended after"),
    Sabotage("DIRECT-23[life]", "client", RESTLESS, AT_REST, "events at"),
    Sabotage("DIRECT-24[no-daemon]", "server1", MONITORED, NOT_SET_BACK, "without a daemon"),
    Sabotage("DIRECT-25[join-invalid]", "server1", UNTRACKED, TABLE_GONE, "came up past the tracker"),
    Sabotage("DIRECT-26[path-manager]", "client", SET_BACK, NOT_SET_BACK, "refused an order"),
)
#: These wait for something that does not happen.
LONG = (
    Sabotage("DIRECT-21[upload-rate]", "server1", MPTCP_STARVED, TABLE_GONE, "MPTCP reached"),
    filtered("DIRECT-21[sum-upload-rate]", "server1", "input", f"ip saddr {SLOWED}", "of their sum"),
    filtered("DIRECT-21[sum-download-rate]", "client", "input", f"ip daddr {SLOWED}", "of their sum"),
    Sabotage(
        "DIRECT-24[orders]",
        "client",
        NO_MORE_ADDRESSES,
        "systemctl restart mptcp-lab-mptcp",
        "joins to the announced address",
    ),
    Sabotage("DIRECT-22[new-nic]", "server1", UNREACHED, TABLE_GONE, "subflows of ['198.18.3.10']"),
    Sabotage("DIRECT-25[killed-at-A]", "server1", ONE_WAY, TABLE_GONE, "more octets"),
)


@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda sabotage: sabotage.claim)
def test_broken_lab_is_seen(configured: Configured, sabotage: Sabotage) -> None:
    assert_seen(configured, sabotage)


@pytest.mark.long
@pytest.mark.parametrize("sabotage", LONG, ids=lambda sabotage: sabotage.claim)
def test_broken_lab_is_seen_after_a_while(configured: Configured, sabotage: Sabotage) -> None:
    assert_seen(configured, sabotage)


@pytest.mark.long  # the check tries until a listener elsewhere should have ended
def test_a_listener_in_another_namespace_leaves_the_check_undecided(configured: Configured) -> None:
    """A kernel takes a listener in any network namespace for a daemon."""
    with subprocess.Popen(["unshare", "--net", "ip", "mptcp", "monitor"]) as monitor:
        try:
            undecided = configured.suite("--claim=DIRECT-24[no-daemon]")
        finally:
            monitor.kill()
    assert undecided.verdicts() == {"DIRECT-24[no-daemon]": "inconclusive"}, undecided.output
    assert "outside of the lab" in undecided.reason("DIRECT-24[no-daemon]")
