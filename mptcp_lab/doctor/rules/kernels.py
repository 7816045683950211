"""The kernel of a host has no MPTCP, or settings of it make MPTCP behave unlike what people expect."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from mptcp_lab.doctor.finding import Confidence, Finding, Rule, Severity
from mptcp_lab.doctor.host_reading import HostReading
from mptcp_lab.doctor.readings import PairReading
from mptcp_lab.doctor.rules._common import endpoints, ends, keep_sysctl, set_sysctl
from mptcp_lab.doctor.unreadable import read_or

NEWER = "apt-get install --only-upgrade linux-image-amd64 && reboot"
#: Settings of which 0 is worse than the default: rule, sysctl, what 0 causes, default.
ZERO_IS_WORSE = {
    "stale-detection-off": (
        "net.mptcp.stale_loss_cnt",
        "a subflow whose packets are all lost is never given up, and its data waits for TCP's timeout",
        4,
    ),
    "announcements-not-repeated": (
        "net.mptcp.add_addr_timeout",
        "an ADD_ADDR whose packet is lost is not sent again, and the peer never joins that address",
        120,
    ),
    "first-lost-syn-ends-mptcp": (
        "net.mptcp.syn_retrans_before_tcp_fallback",
        "one lost SYN makes the connection plain TCP",
        2,
    ),
}


def find_without_mptcp(reading: PairReading) -> Iterable[Finding]:
    """Find kernels that were built without MPTCP."""
    for host in reading.hosts:
        if host.mptcp_socket == "EPROTONOSUPPORT":
            built = read_or(host.config, {}).get("CONFIG_MPTCP", "not set")
            yield _replace_kernel(
                "kernel-without-mptcp",
                host,
                f"The kernel of {host.name} was built without MPTCP.",
                f"CONFIG_MPTCP is {built}",
            )


def find_too_old(reading: PairReading) -> Iterable[Finding]:
    """Find kernels that are older than MPTCP."""
    for host in reading.hosts:
        if host.mptcp_socket == "EINVAL":
            yield _replace_kernel(
                "kernel-too-old",
                host,
                f"The kernel of {host.name} is older than MPTCP, which came with Linux 5.6.",
                f"kernel {host.kernel}",
            )


def find_out_of_tree(reading: PairReading) -> Iterable[Finding]:
    """Find kernels of the project that was there before MPTCP came into Linux."""
    for host in reading.hosts:
        if host.sysctl("net.mptcp.mptcp_enabled"):
            yield _replace_kernel(
                "out-of-tree-kernel",
                host,
                f"{host.name} runs an out-of-tree MPTCP kernel, which is no longer maintained.",
                f"net.mptcp.mptcp_enabled = {host.sysctl('net.mptcp.mptcp_enabled')}, kernel {host.kernel}",
            )


def _replace_kernel(rule: str, host: HostReading, what: str, evidence: str) -> Finding:
    return Finding(
        rule=rule,
        severity=Severity.ERROR,
        host=host.name,
        what=what,
        why="Connections with it are plain TCP, or speak a version of MPTCP that no current kernel does.",
        fix=NEWER,
        evidence=(evidence,),
        follows_from=("out-of-tree-kernel",) if rule != "out-of-tree-kernel" else (),
    )


def find_userspace_path_manager(reading: PairReading) -> Iterable[Finding]:
    """Find kernels that leave paths to a daemon, and no daemon is there."""
    for _, host, _ in ends(reading):
        is_userspace = host.sysctl("net.mptcp.path_manager") == "userspace"
        is_userspace |= host.sysctl("net.mptcp.pm_type") == "1"
        if is_userspace and not host.daemon("mptcpd").is_active:
            name = "path_manager" if host.sysctl("net.mptcp.path_manager") else "pm_type"
            value = "kernel" if name == "path_manager" else 0
            yield Finding(
                rule="userspace-path-manager",
                severity=Severity.ERROR,
                host=host.name,
                what=f"{host.name} leaves the choice of paths to a daemon, and none runs.",
                why="The kernel ignores its endpoints and limits, so connections keep one subflow.",
                fix=set_sysctl(f"net.mptcp.{name}", value),
                persistent=keep_sysctl(f"net.mptcp.{name}", value),
                evidence=(f"net.mptcp.{name} = {host.sysctl(f'net.mptcp.{name}')}", "mptcpd is not active"),
            )


def find_zero(rule: str) -> Callable[[PairReading], Iterable[Finding]]:
    """Return a rule's function that finds hosts whose setting of `ZERO_IS_WORSE` is 0."""
    name, effect, default = ZERO_IS_WORSE[rule]

    def find(reading: PairReading) -> Iterable[Finding]:
        for host in reading.hosts:
            if host.sysctl(name) == "0":
                yield Finding(
                    rule=rule,
                    severity=Severity.NOTE,
                    host=host.name,
                    what=f"{name} is 0 on {host.name}.",
                    why=f"With 0, {effect}.",
                    fix=set_sysctl(name, default),
                    persistent=keep_sysctl(name, default),
                    evidence=(f"{name} = 0, the default is {default}",),
                )

    return find


def find_missing_scheduler(reading: PairReading) -> Iterable[Finding]:
    """Find hosts whose packet scheduler is no longer there, as one of BPF that was unloaded."""
    for host in reading.hosts:
        name = host.sysctl("net.mptcp.scheduler")
        available = host.sysctl("net.mptcp.available_schedulers").split()
        if name and available and name not in available:
            yield Finding(
                rule="scheduler-not-loaded",
                severity=Severity.WARNING,
                host=host.name,
                what=f"The packet scheduler {name} is set on {host.name}, and is not loaded.",
                why="The kernel takes its own instead: the path with the lowest round-trip time first.",
                fix=set_sysctl("net.mptcp.scheduler", available[0]),
                persistent=keep_sysctl("net.mptcp.scheduler", available[0]),
                evidence=(f"net.mptcp.available_schedulers = {' '.join(available)}",),
            )


def find_old_backup_flag(reading: PairReading) -> Iterable[Finding]:
    """Find backup endpoints on kernels whose backup flag was not yet consistent (before Linux 6.11)."""
    for host in reading.hosts:
        backups = [each.address for each in endpoints(host) if "backup" in each.flags]
        if backups and (0, 0) < kernel_version(host) < (6, 11):
            yield Finding(
                rule="old-backup-flag",
                severity=Severity.NOTE,
                host=host.name,
                what=f"{host.name} has backup endpoints and a kernel that may report the flag wrongly.",
                why="Before Linux 6.11 a join's answer repeated the peer's flag, so both ends may disagree.",
                fix=NEWER,
                confidence=Confidence.POSSIBLE,
                evidence=(f"kernel {host.kernel}", f"backup: {', '.join(backups)}"),
            )


def find_newer_installed(reading: PairReading) -> Iterable[Finding]:
    """Find hosts that wait for a boot of a newer kernel: old series get fixes of MPTCP too."""
    for host in reading.hosts:
        releases = [each for each in read_or(host.installed_kernels, ()) if each[:1].isdigit()]
        newest = max(releases, key=_numbers, default="")
        if newest and host.kernel and _numbers(newest) > _numbers(host.kernel):
            yield Finding(
                rule="newer-kernel-installed",
                severity=Severity.NOTE,
                host=host.name,
                what=f"{host.name} runs Linux {host.kernel}, and {newest} is installed.",
                why="Faults of MPTCP are fixed in each kernel series that is still maintained.",
                fix="reboot",
                confidence=Confidence.LIKELY,
                evidence=(f"uname -r: {host.kernel}", f"/boot/vmlinuz-{newest}"),
                follows_from=(
                    "kernel-without-mptcp",
                    "kernel-too-old",
                    "out-of-tree-kernel",
                    "old-backup-flag",
                ),
            )


def _numbers(release: str) -> tuple[int, ...]:
    """Return the numbers of a kernel's release, by which releases are ordered."""
    return tuple(map(int, re.findall(r"\d+", release)))


def kernel_version(host: HostReading) -> tuple[int, int]:
    """Return the first two numbers of a kernel's version; (0, 0) where it was not read."""
    found = re.match(r"(\d+)\.(\d+)", host.kernel)
    return (int(found[1]), int(found[2])) if found else (0, 0)


RULES = (
    Rule(
        "kernel-too-old",
        "a kernel before Linux 5.6: `socket()` with MPTCP gives EINVAL",
        find_too_old,
        "install a newer kernel",
    ),
    Rule(
        "kernel-without-mptcp",
        "a kernel that was built without `CONFIG_MPTCP`: EPROTONOSUPPORT",
        find_without_mptcp,
        "install the distribution's kernel",
    ),
    Rule(
        "out-of-tree-kernel",
        "`net.mptcp.mptcp_enabled` exists: an out-of-tree kernel (version 0.9x)",
        find_out_of_tree,
        "install a kernel of Linux 6.1 or later",
    ),
    Rule(
        "userspace-path-manager",
        "`net.mptcp.path_manager` is `userspace` (`pm_type` is 1), and no mptcpd runs",
        find_userspace_path_manager,
        f"`{set_sysctl('net.mptcp.path_manager', 'kernel')}`, or start mptcpd",
    ),
    *(
        Rule(rule, f"`{name}` is 0: {effect}", find_zero(rule), f"`{set_sysctl(name, default)}`")
        for rule, (name, effect, default) in ZERO_IS_WORSE.items()
    ),
    Rule(
        "scheduler-not-loaded",
        "`net.mptcp.scheduler` is none of `net.mptcp.available_schedulers`",
        find_missing_scheduler,
        "load it, or `sysctl -w net.mptcp.scheduler=default`",
    ),
    Rule(
        "old-backup-flag",
        "backup endpoints on a kernel before Linux 6.11, whose answers repeat the peer's flag",
        find_old_backup_flag,
        "install a newer kernel at both ends",
    ),
    Rule(
        "newer-kernel-installed",
        "a kernel that is installed is newer than the one that runs",
        find_newer_installed,
        "`reboot`",
    ),
)
