"""Strict reverse path filters of hosts drop what comes in by another device than answers leave by."""

from __future__ import annotations

from collections.abc import Iterable

from mptcp_lab.doctor.finding import Confidence, Finding, Rule, Severity
from mptcp_lab.doctor.host_reading import HostReading
from mptcp_lab.doctor.readings import Leg, PairReading
from mptcp_lab.doctor.rules._common import ends, keep_sysctl, missing_pairs, set_sysctl
from mptcp_lab.doctor.unreadable import read_or

STRICT, LOOSE = 1, 2
DROPPED = "IPReversePathFilter"


def find_strict_filter(reading: PairReading) -> Iterable[Finding]:
    """Find strict reverse path filters on devices of missing subflows."""
    for leg, host, is_client in ends(reading):
        dropped = _count_dropped(leg, is_client)
        missing = missing_pairs(leg)
        if not missing or not (dropped or not _counts(leg, is_client)):
            continue
        devices = [each.name for each in read_or(host.links, ()) if each.name != "lo"]
        strict = [name for name in devices if host.rp_filter(name) == STRICT]
        if not strict:
            continue
        names = ["all"] if host.sysctl("net.ipv4.conf.all.rp_filter") == str(STRICT) else strict
        # The greater of the two values counts, so that loose on "all" is enough for every device.
        fix = set_sysctl("net.ipv4.conf.all.rp_filter", LOOSE)
        yield Finding(
            rule="strict-reverse-path",
            severity=Severity.WARNING,
            host=host.name,
            what=f"{host.name} drops packets that come in by another NIC than it would answer by.",
            why="With several NICs that is normal: rp_filter 1 (strict) takes such packets for forged.",
            fix=fix,
            persistent=keep_sysctl("net.ipv4.conf.all.rp_filter", LOOSE),
            confidence=Confidence.CERTAIN if dropped else Confidence.POSSIBLE,
            evidence=(
                *(f"TcpExt {DROPPED} moved by {dropped}" for _ in range(bool(dropped))),
                f"rp_filter is 1 on {', '.join(names)}",
            ),
            follows_from=("rule-to-empty-table",),
        )


def _count_dropped(leg: Leg, is_client: bool) -> int:
    connection = leg.connection
    if connection is None:
        return 0
    read = connection.client_counter if is_client else connection.server_counter
    return read(DROPPED, "TcpExt")


def _counts(leg: Leg, is_client: bool) -> bool:
    """Return whether a host's kernel counts what its filter drops."""
    host: HostReading | None = leg.client if is_client else leg.server
    return host is not None and DROPPED in host.counters.get("TcpExt", {})


RULES = (
    Rule(
        "strict-reverse-path",
        "`IPReversePathFilter` moves, and `rp_filter` is 1 (strict) on a host",
        find_strict_filter,
        f"`{set_sysctl('net.ipv4.conf.all.rp_filter', LOOSE)}`",
    ),
)
