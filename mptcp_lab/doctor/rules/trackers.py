"""A host's connection tracker calls packets of joins invalid, or has no room for new connections."""

from __future__ import annotations

from collections.abc import Iterable

from mptcp_lab.doctor.finding import Confidence, Finding, Rule, Severity
from mptcp_lab.doctor.readings import PairReading
from mptcp_lab.doctor.rules._common import ends, keep_sysctl, missing_pairs, set_sysctl
from mptcp_lab.doctor.rules.firewall import INVALID, rule_lines
from mptcp_lab.doctor.service_reading import Conntrack

LIBERAL = "net.netfilter.nf_conntrack_tcp_be_liberal"
MAXIMUM = "net.netfilter.nf_conntrack_max"


def find_invalid_joins(reading: PairReading) -> Iterable[Finding]:
    """Find connection trackers that call packets of joins invalid, where a filter drops such packets."""
    for leg, host, is_client in ends(reading):
        connection = leg.connection
        lines = [(line, where) for line, where in rule_lines(host) if INVALID.search(line)]
        if connection is None or not lines or not missing_pairs(leg):
            continue
        read = connection.client_counter if is_client else connection.server_counter
        invalid = read("invalid", "Conntrack")
        if not invalid:
            continue
        yield Finding(
            rule="tracker-calls-joins-invalid",
            severity=Severity.WARNING,
            host=host.name,
            what=f"The connection tracker of {host.name} calls packets of joins invalid, and its "
            "filter drops them.",
            why="A tracker that sees one direction of a subflow only does not know its handshake.",
            fix=set_sysctl(LIBERAL, 1),
            persistent=keep_sysctl(LIBERAL, 1),
            confidence=Confidence.LIKELY,
            evidence=(
                f"the tracker's counter invalid moved by {invalid}",
                *(f"{where}: {line}" for line, where in lines[:2]),
            ),
        )


def find_full_tracker(reading: PairReading) -> Iterable[Finding]:
    """Find connection trackers without room for a further connection."""
    for host in reading.hosts:
        tracker = host.conntrack
        if isinstance(tracker, Conntrack) and 0 < tracker.maximum <= tracker.count:
            yield Finding(
                rule="tracker-full",
                severity=Severity.WARNING,
                host=host.name,
                what=f"The connection tracker of {host.name} is full.",
                why="It drops the first packet of every new subflow.",
                fix=set_sysctl(MAXIMUM, tracker.maximum * 2),
                persistent=keep_sysctl(MAXIMUM, tracker.maximum * 2),
                evidence=(f"{tracker.count} of {tracker.maximum} entries",),
            )


RULES = (
    Rule(
        "tracker-calls-joins-invalid",
        "the connection tracker's `invalid` moves, and a rule drops `ct state invalid`",
        find_invalid_joins,
        f"`{set_sysctl(LIBERAL, 1)}`, or accept the port before that rule",
    ),
    Rule(
        "tracker-full",
        "`nf_conntrack_count` has reached `nf_conntrack_max`",
        find_full_tracker,
        f"raise `{MAXIMUM}`",
    ),
)
