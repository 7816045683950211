"""Endpoints and limits live in the kernel only: nothing sets them again after a boot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mptcp_lab.doctor.finding import Confidence, Finding, Rule, Severity
from mptcp_lab.doctor.host_reading import HostReading
from mptcp_lab.doctor.readings import PairReading
from mptcp_lab.doctor.rules._common import add_endpoint, describe_flags, endpoints, keep_command
from mptcp_lab.doctor.rules.managers import manages_endpoints
from mptcp_lab.doctor.unreadable import Unreadable, read_or
from mptcp_lab.probe.facts import Limits

#: The limits of a kernel that was just booted (net/mptcp/pm_kernel.c).
DEFAULT_SUBFLOWS, DEFAULT_ACCEPTED = 2, 0


def find_lost_at_reboot(reading: PairReading) -> Iterable[Finding]:
    """Find hosts whose endpoints or limits come from no unit, script, mptcpd or NetworkManager."""
    for host in reading.hosts:
        if not isinstance(host.boot_files, Mapping) or isinstance(host.units, Unreadable):
            continue  # without systemd, as in a container, something else sets the network up
        lines = "\n".join(host.boot_files.values())
        lost = _lost_limits(host, lines) + _lost_endpoints(host, lines)
        if lost:
            yield Finding(
                rule="settings-lost-at-reboot",
                severity=Severity.NOTE,
                host=host.name,
                what=f"What `ip mptcp` set on {host.name} is in its kernel only: a boot loses it.",
                why="The kernel keeps no endpoint and no limit, and no unit, script or daemon sets them.",
                fix=keep_command("mptcp-endpoints", " && ".join(command for command, _ in lost)),
                confidence=Confidence.LIKELY,
                evidence=tuple(shown for _, shown in lost),
            )


def _lost_limits(host: HostReading, lines: str) -> list[tuple[str, str]]:
    """Return the command that sets the host's limits, and how they are shown, unless a boot sets them."""
    limits = read_or(host.limits, Limits(DEFAULT_SUBFLOWS, DEFAULT_ACCEPTED))
    is_default = (limits.subflows, limits.add_addr_accepted) == (DEFAULT_SUBFLOWS, DEFAULT_ACCEPTED)
    if is_default or "limits" in lines or host.daemon("NetworkManager").is_active:
        return []
    values = f"subflows {limits.subflows} add_addr_accepted {limits.add_addr_accepted}"
    return [(f"ip mptcp limits set {values}", f"ip mptcp limits: {values}")]


def _lost_endpoints(host: HostReading, lines: str) -> list[tuple[str, str]]:
    """Return the command that adds each endpoint, and how it is shown, unless a boot adds endpoints."""
    if "endpoint" in lines or manages_endpoints(host):
        return []
    return [(add_endpoint(each, each.flags), describe_flags(each)) for each in endpoints(host)]


RULES = (
    Rule(
        "settings-lost-at-reboot",
        "`ip mptcp` shows endpoints or limits that no unit, script, mptcpd or NetworkManager sets at a boot",
        find_lost_at_reboot,
        "a unit that runs the commands, as the doctor prints it",
    ),
)
