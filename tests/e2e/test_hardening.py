"""Proxies and origins have the rights that they need, and serve with those."""

from __future__ import annotations

import shlex

import pytest

from tests.e2e.conftest import Configured

#: Unit, a host that has it, the most that `systemd-analyze security` may give it (10 is everything), and the
#: capabilities that its first process keeps.
UNITS = {
    "haproxy": ("proxy1", 2.5, {"kill", "setgid", "setuid", "net_bind_service", "sys_chroot"}),
    "nginx": (
        "proxy1",
        2.7,
        {"chown", "dac_override", "kill", "setgid", "setuid", "net_bind_service"},
    ),
    "mptcp-lab-origin@origin": ("server1", 2.0, set()),
}
#: Bits of a capability set, from capabilities(7) and linux/capability.h.
BITS = {
    0: "chown",
    1: "dac_override",
    5: "kill",
    6: "setgid",
    7: "setuid",
    10: "net_bind_service",
    18: "sys_chroot",
}


def first_process(configured: Configured, host: str, unit: str) -> str:
    return configured.own.ssh(host, f"systemctl show --property=MainPID --value {unit}").strip()


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_is_exposed_no_more_than_it_needs(configured: Configured, unit: str) -> None:
    host, most, _ = UNITS[unit]
    printed = configured.own.ssh(host, f"systemd-analyze security --no-pager {unit}.service | tail -n 1")
    assert float(printed.split(": ")[1].split()[0]) <= most, printed


#: Oneshot units, each with a host that has it.
ONESHOT = {
    "mptcp-lab-network": "client",
    "mptcp-lab-mptcp": "client",
    "mptcp-lab-confirmed": "client",
    "mptcp-lab-gateway": "gateway",
    "mptcp-lab-forward": "proxy1",
}


@pytest.mark.parametrize("unit", ONESHOT)
def test_a_oneshot_unit_has_little_beyond_the_network(configured: Configured, unit: str) -> None:
    printed = configured.own.ssh(
        ONESHOT[unit], f"systemd-analyze security --no-pager {unit}.service | tail -n 1"
    )
    assert float(printed.split(": ")[1].split()[0]) < 5, printed


@pytest.mark.parametrize("unit", UNITS)
def test_the_process_has_no_other_rights(configured: Configured, unit: str) -> None:
    """Read off the process itself: the unit may ask for more than the kernel applied."""
    host, _, capabilities = UNITS[unit]
    status = configured.own.ssh(host, f"cat /proc/{first_process(configured, host, unit)}/status")
    fields = dict(line.split(":\t") for line in status.splitlines() if ":\t" in line)
    bound = int(fields["CapBnd"], 16)
    assert {BITS.get(bit, bit) for bit in range(64) if bound >> bit & 1} == capabilities
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")


#: What each unit may write to, beside a /tmp and /var/tmp of its own.
WRITABLE = {
    "haproxy": {"/run/haproxy", "/var/lib/haproxy"},
    "nginx": {"/run/nginx", "/var/log/nginx"},
    "mptcp-lab-origin@origin": {"/run/mptcp-lab-origin-origin"},
}
TEMPORARY = {"/tmp", "/var/tmp"}
#: Every file and folder that may be written to; of /proc the kernel's settings, the rest is of processes. The
#: unit's own memory.pressure is there for it to ask for notifications.
FIND_WRITABLE = (
    "find / \\( -path /dev -o -path /proc \\) -prune -o"
    " \\( -type f -o -type d \\) -writable -not -name memory.pressure -print 2>/dev/null;"
    " find /proc/sys -type f -writable -print 2>/dev/null; true"
)


def users(configured: Configured, host: str, unit: str) -> set[str]:
    """Return user and group of each of a unit's processes."""
    pids = f"cat /sys/fs/cgroup$(systemctl show -P ControlGroup {unit})/cgroup.procs"
    printed = configured.own.ssh(host, f'for p in $({pids}); do stat -c "%u:%g" /proc/$p; done')
    return set(printed.split())


@pytest.mark.parametrize("unit", UNITS)
def test_it_can_write_nowhere_else_from_inside(configured: Configured, unit: str) -> None:
    """Each of its users, and a root with every capability, looks for what it may write to in there."""
    host, _, _ = UNITS[unit]
    process = first_process(configured, host, unit)
    for user in sorted(users(configured, host, unit) | {"0:0"}):
        uid, _, gid = user.partition(":")
        inside = f"nsenter -t {process} -m -S {uid} -G {gid} sh -c {shlex.quote(FIND_WRITABLE)}"
        found = configured.own.ssh(host, inside).splitlines()
        assert found, f"{unit}: {user} may write to nothing, not even to its own folders"
        mine = WRITABLE[unit] | TEMPORARY
        others = [
            path for path in found if not any(path == each or path.startswith(f"{each}/") for each in mine)
        ]
        assert others == [], f"{unit}: {user}: {others[:20]}"


def test_the_origin_is_no_user_of_the_system(configured: Configured) -> None:
    for host in ("server1", "server2"):
        found = users(configured, host, "mptcp-lab-origin@origin")
        assert found and not any(user.startswith("0:") for user in found)
        assert configured.own.ssh(host, "stat -c '%a %U' /run/mptcp-lab").split() == ["700", "root"]


@pytest.mark.parametrize("unit", UNITS)
def test_it_cannot_write_where_it_has_no_business(configured: Configured, unit: str) -> None:
    host, _, _ = UNITS[unit]
    process = first_process(configured, host, unit)
    for folder in ("/etc", "/usr/local", "/var/lib", "/run/systemd"):
        said = configured.own.ssh_may_fail(host, f"nsenter -t {process} -m touch {folder}/mark 2>&1")
        assert "Read-only file system" in said, f"{unit}: {folder}: {said}"


@pytest.mark.parametrize("unit", ["haproxy", "nginx"])
def test_it_reloads_and_restarts_with_these_rights(configured: Configured, unit: str) -> None:
    """That connections live through a reload is PROXY-9's."""
    for host in ("proxy1", "proxy2"):
        before = first_process(configured, host, unit)
        configured.own.ssh(host, f"systemctl reload {unit}")
        assert first_process(configured, host, unit) == before
        configured.own.ssh(host, f"systemctl restart {unit}")
        assert first_process(configured, host, unit) != before
    run = configured.suite(f"--claim=PROXY-1[{unit}*")
    assert set(run.verdicts().values()) == {"pass"}, run.output
