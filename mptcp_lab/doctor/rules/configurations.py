"""A service's configuration asks for MPTCP, and its socket is not what the configuration says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from mptcp_lab.doctor.finding import Confidence, Finding, Rule, Severity
from mptcp_lab.doctor.host_reading import HostReading
from mptcp_lab.doctor.readings import PairReading
from mptcp_lab.doctor.rules._causes import SWITCHES
from mptcp_lab.doctor.rules._common import keep_enabled, legs_with_server
from mptcp_lab.doctor.rules.listeners import own_listeners, process_of
from mptcp_lab.doctor.service_reading import Configuration


def _find(reading: PairReading, program: str, pattern: str, rule: str, why: str) -> Iterator[Finding]:
    """Find services of a program that listen with TCP, and whose configuration's line asks for MPTCP."""
    for leg, server in legs_with_server(reading):
        found = own_listeners(server, leg.port)
        asked = list(_lines(server, program, pattern.format(port=leg.port)))
        if not found or not asked or any(each.protocol == "mptcp" for each in found):
            continue
        configuration, line = asked[0]
        process = process_of(server, found[0])
        is_newer = configuration.changed > process.started > 0
        yield Finding(
            rule=rule,
            severity=Severity.ERROR,
            host=server.name,
            what=f"{program} on {server.name} is configured for MPTCP on port {leg.port}, and "
            "listens with TCP.",
            why=why,
            fix=f"systemctl restart {process.unit or program}",
            persistent=keep_enabled(process.unit or program),
            confidence=Confidence.CERTAIN if is_newer else Confidence.LIKELY,
            evidence=(
                f"{configuration.path}: {line}",
                f"ss -ltn: {found[0].address}:{leg.port} is TCP",
                *(("the file changed after the service was started",) if is_newer else ()),
            ),
            follows_from=SWITCHES,
        )


def _lines(host: HostReading, program: str, pattern: str) -> Iterator[tuple[Configuration, str]]:
    for each in host.configurations:
        if each.program == program:
            yield from ((each, line) for line in each.lines if re.search(pattern, line))


def find_nginx(reading: PairReading) -> Iterable[Finding]:
    """Find an nginx whose `multipath` is not in force, as after a reload that kept the old socket."""
    yield from _find(
        reading,
        "nginx",
        r"listen\s+(?:\S*:)?{port}\b.*\bmultipath\b",
        "nginx-multipath-not-in-force",
        "A reload kept the socket that was open, which is plain TCP: only a restart opens a new one.",
    )


def find_haproxy(reading: PairReading) -> Iterable[Finding]:
    """Find a HAProxy whose `mptcp@` is not in force."""
    yield from _find(
        reading,
        "haproxy",
        r"bind\s+mptcp[46]?@\S*:{port}\b",
        "haproxy-mptcp-not-in-force",
        "The process was started before the line was there, and keeps its plain TCP socket.",
    )


RULES = (
    Rule(
        "nginx-multipath-not-in-force",
        "nginx has `listen … multipath`, and its socket is TCP: a reload kept the old one",
        find_nginx,
        "`systemctl restart nginx`",
    ),
    Rule(
        "haproxy-mptcp-not-in-force",
        "HAProxy has `bind mptcp@…`, and its socket is TCP",
        find_haproxy,
        "`systemctl restart haproxy`",
    ),
)
