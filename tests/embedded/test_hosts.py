"""Test a host of the embedded lab: it has systemd, a private sshd, few rights, and no way out of the lab."""

import subprocess

from mptcp_lab.probe import eventually
from tests.labs import OwnLab

#: Bits of linux/capability.h that a host must not have: modules, raw I/O, devices, time, other users' audit.
FORBIDDEN = {
    "sys_module": 16,
    "sys_rawio": 17,
    "mknod": 27,
    "sys_time": 25,
    "audit_control": 30,
    "mac_admin": 33,
}


def test_every_host_runs_systemd_without_failed_units(own: OwnLab) -> None:
    for name in own.lab.hosts:
        assert own.ssh(name, "systemctl is-system-running --wait").strip() == "running"


def test_ssh_listens_on_no_network(own: OwnLab) -> None:
    assert own.ssh("client", "ss -Hltn").strip() == ""


def test_a_host_has_no_more_rights_than_named(own: OwnLab) -> None:
    status = own.ssh("client", "grep CapBnd /proc/1/status")
    mask = int(status.split()[1], 16)
    assert not [name for name, bit in FORBIDDEN.items() if mask >> bit & 1]


def test_a_host_whose_key_changed_is_refused(own: OwnLab) -> None:
    known = own.paths.state / "known_hosts"
    right = known.read_text()
    lines = dict(line.split(" ", 1) for line in right.splitlines())
    known.write_text(f"client {lines['server1']}\n")
    try:
        command = ["ssh", "-F", str(own.paths.state / "ssh_config"), "client", "true"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    finally:
        known.write_text(right)
    assert done.returncode == 255
    assert "verification failed" in done.stderr


def test_keys_and_state_are_private(own: OwnLab) -> None:
    for folder in (own.paths.state, own.paths.run, own.paths.cache):
        assert folder.stat().st_mode & 0o777 == 0o700
    for file in ("id_ed25519", "known_hosts", "ssh_config"):
        assert (own.paths.state / file).stat().st_mode & 0o777 == 0o600


def test_packages_install_without_network(own: OwnLab) -> None:
    own.ssh("proxy2", "apt-get install -qq -y --no-install-recommends mptcpize >/dev/null 2>&1")
    assert "mptcpize" in own.ssh("proxy2", "dpkg-query -W mptcpize")
    assert "3.0" in own.ssh("proxy2", "apt-cache policy haproxy | grep Candidate")
    assert "3.2" in own.ssh("proxy2", "apt-cache policy haproxy")


#: Duplicate address detection of every NIC and of NICs to come: 0 is off.
READ_DAD = "cat /proc/sys/net/ipv6/conf/all/accept_dad /proc/sys/net/ipv6/conf/{default,eth*}/accept_dad"
#: The same of the loopback interface, which no lab sets.
READ_DAD_OF_LO = "cat /proc/sys/net/ipv6/conf/lo/accept_dad"


def test_no_ipv6_address_waits_for_duplicate_address_detection(own: OwnLab) -> None:
    for name in own.lab.hosts:
        assert set(own.ssh(name, f"bash -c '{READ_DAD}'").split()) == {"0"}, name


def test_a_reboot_keeps_files_and_nics_and_loses_network_settings(own: OwnLab) -> None:
    loopback = own.ssh("server2", READ_DAD_OF_LO)
    own.ssh("server2", "touch /root/kept; ip link set eth1 up; ip addr add 192.0.2.1/24 dev eth1")
    before = own.ssh("server2", "cat /proc/sys/kernel/random/boot_id")
    own.ssh_may_fail("server2", "reboot")
    boot_id = "cat /proc/sys/kernel/random/boot_id"
    eventually(
        lambda: own.ssh_may_fail("server2", boot_id),
        until=lambda now: now not in ("", before),
        within=30,
        what="a new boot id",
    )
    assert own.ssh("server2", "ls /root/kept").strip() == "/root/kept"
    assert "192.0.2.1" not in own.ssh("server2", "ip -br address")
    assert "eth1" in own.ssh("server2", "ip -br link")
    assert set(own.ssh("server2", f"bash -c '{READ_DAD}'").split()) == {"0"}
    assert own.ssh("server2", READ_DAD_OF_LO) == loopback


def test_a_host_takes_four_inotify_instances(own: OwnLab) -> None:
    """tests/scheduling.py reckons with these: Linux allows a user 128 by default."""
    assert own.count_inotify() == 4 * len(own.lab.hosts)
