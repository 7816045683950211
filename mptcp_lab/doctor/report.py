"""Render readings and findings: text for people, worst first and under a screen, and a JSON document. Pure.

``doctor.schema.json`` describes the document.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from mptcp_lab import __version__
from mptcp_lab.doctor.connection_reading import ConnectionReading
from mptcp_lab.doctor.finding import Finding, to_json
from mptcp_lab.doctor.host_reading import HostReading
from mptcp_lab.doctor.readings import Leg, PairReading, to_document
from mptcp_lab.doctor.unreadable import Unreadable
from mptcp_lab.text import to_one_line

SCHEMA = 1
LABEL = 10  # characters of the left column
WIDTH_MAX = 110
SCREEN_LINES = 24
EVIDENCE_SHOWN = 3
PAIRS_SHOWN = 6
#: Readings whose absence a reader does not miss.
QUIET = frozenset({"bpf", "log", "config", "sockets", "qdiscs", "nm_connections"})


def render_text(
    readings: Sequence[PairReading],
    findings: Sequence[Finding],
    seconds: float,
    width: int = 100,
    lines: int = SCREEN_LINES,
) -> str:
    """Return the report for a terminal; what does not fit into ``lines`` is shown as a line for each finding.

    With ``lines`` 0, everything is shown.
    """
    width = min(width, WIDTH_MAX)
    head = [line for reading in readings for line in _describe_pair(reading, is_short=len(readings) > 1)]
    foot = [*_describe_unreadable(readings, width), _conclude(readings, findings, seconds)]
    body = _fill(findings, width, lines - len(head) - len(foot) - 1 if lines else 0)
    return "\n".join(_printable([*head, "", *body, *foot])) + "\n"


def _fill(findings: Sequence[Finding], width: int, room: int) -> list[str]:
    """Return the findings in at most ``room`` lines (0: any number), the first one whole."""
    body: list[str] = []
    for number, finding in enumerate(findings):
        whole = [*_describe_finding(finding, width), ""]
        others = len(findings) - number - 1
        if room and number and len(body) + len(whole) + bool(others) * (others + 2) > room:
            return body + _list_briefly(findings[number:], width, room - len(body))
        body += whole
    return body


def _list_briefly(findings: Sequence[Finding], width: int, room: int) -> list[str]:
    """Return a line for each finding, as many as fit, and how to see more."""
    fitting = max(1, room - 2)
    shown = [_fit(f"{each.severity.value.upper():{LABEL}}{each.what}", width) for each in findings[:fitting]]
    more = f"{len(findings) - fitting} more; " if len(findings) > fitting else ""
    return [*shown, f"{'':{LABEL}}{more}--all shows why, and the commands", ""]


def _printable(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        yield to_one_line(line).rstrip()


def _fit(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."


def _describe_pair(reading: PairReading, *, is_short: bool) -> Iterator[str]:
    if reading.server is None and reading.connection is not None:
        yield describe_remote(reading.client, reading.connection)
        return
    hosts = [reading.client, *([reading.proxy] if reading.proxy else [])]
    names = [f"{host.name} ({_system(host)})" for host in hosts]
    if is_short:
        names = [host.name for host in hosts]
    end = reading.server
    if end is not None:
        names.append(end.name if is_short else f"{end.name} ({_system(end)})")
    title = f"{' > '.join(names)}, port {reading.port}"
    if is_short:
        states = "; ".join(describe_connection(leg.connection) for leg in reading.connections)
        yield f"{title}: {states}"
        return
    yield title
    for leg in reading.connections:
        yield from _describe_leg(leg, name=f"from {leg.client.name}: " if reading.proxy else "")


def _system(host: HostReading) -> str:
    return f"Linux {host.kernel}, {host.os}" if host.os else f"Linux {host.kernel}"


def _describe_leg(leg: Leg, name: str) -> Iterator[str]:
    connection = leg.connection
    yield f"  {name}{describe_connection(connection)}"
    if connection is None or not connection.is_mptcp:
        return
    shown = [pair for pair in connection.pairs if pair.is_expected or pair.state == "established"]
    for pair in shown[:PAIRS_SHOWN]:
        device = leg.client.device_of(pair.client)
        yield f"    {pair.client} {f'({device}) ' if device else ''}> {pair.server}: {pair.state}"
    if len(shown) > PAIRS_SHOWN:
        yield f"    and {len(shown) - PAIRS_SHOWN} more"


def describe_connection(connection: ConnectionReading | None) -> str:
    """Return in a few words what became of the doctor's connection."""
    if connection is None or connection.first is None:
        return "no connection: no address to connect to"
    first = connection.first
    if first.error:
        tcp = connection.attempts[1] if len(connection.attempts) > 1 else None
        also = "" if tcp is None else f"; plain TCP: {tcp.error or 'connected'}"
        return f"no connection to {connection.server_address}: {first.error}{also}"
    took = f"{first.seconds * 1000:.1f} ms"
    if first.is_mptcp is None:
        return f"connected to {connection.server_address} in {took}; the kernel cannot tell whether by MPTCP"
    if not first.is_mptcp:
        return f"plain TCP to {connection.server_address}, connected in {took}"
    if not connection.expected:
        return f"MPTCP to {connection.server_address}, connected in {took}"
    came = sum(pair.is_expected and pair.state == "established" for pair in connection.pairs)
    more = connection.subflows - came
    beside = f" and {more} more" if more > 0 else ""
    return (
        f"MPTCP to {connection.server_address}, connected in {took}: "
        f"{came} of {connection.expected} expected subflows{beside}"
    )


def describe_remote(client: HostReading, connection: ConnectionReading) -> str:
    """Return what a server that is not read answered to one address of the client."""
    first = connection.first
    source = connection.client_address or (first.source if first else "")
    device = client.device_of(source)
    start = f"{source or client.name} {f'({device}) ' if device else ''}> "
    text = start + describe_connection(replace(connection, expected=0))
    capture = connection.client_capture
    if first is None or first.error or isinstance(capture, Unreadable):
        return text
    shake = capture.handshake
    if shake.is_mirrored:
        return f"{text}; the SYN/ACK has the SYN's own option: something on the way mirrors it"
    if shake.synack_option:
        return f"{text}; MP_CAPABLE answered, version {shake.synack_version}"
    return f"{text}; the SYN/ACK has no MP_CAPABLE"


def _describe_finding(finding: Finding, width: int) -> list[str]:
    """Return a finding: what, why, commands, evidence, and what follows from it."""
    sure = "" if finding.confidence.value == "certain" else f" ({finding.confidence.value})"
    found = _column(finding.severity.value.upper(), f"{finding.what}{sure}", width)
    found += _column("why", finding.why, width)
    if finding.fix:
        found += _command(f"on {finding.host}", finding.fix)
    if finding.persistent:
        found += _command("keep it", finding.persistent)
    evidence = list(finding.evidence[:EVIDENCE_SHOWN])
    if evidence:
        found += _column("seen", "; ".join(evidence), width)
    if finding.folded:
        found += _column("hence", " ".join(dict.fromkeys(each.what for each in finding.folded)), width)
    return found


def _column(label: str, text: str, width: int) -> list[str]:
    label = label if len(label) < LABEL else f"{label} "
    return textwrap.wrap(
        f"{label:{LABEL}}{to_one_line(text)}", width, subsequent_indent=" " * LABEL, break_on_hyphens=False
    )


def _command(label: str, command: str) -> list[str]:
    """Return a command as it is typed: it is never wrapped."""
    first, *others = command.splitlines() or [""]
    label = label if len(label) < LABEL else f"{label} "
    return [f"{label:{LABEL}}# {first}", *(f"{'':{LABEL}}# {line}" for line in others)]


def _describe_unreadable(readings: Sequence[PairReading], width: int) -> list[str]:
    """Return a sentence for each host of which something could not be read, and why, as lines."""
    hosts = {host.name: host for reading in readings for host in reading.hosts}
    found = []
    for name, host in hosts.items():
        parts = {part: why for part, why in host.unreadable().items() if part not in QUIET}
        if parts:
            reasons = dict.fromkeys(parts.values())
            if host.uid and any(why.startswith("needs root") for why in reasons):
                reasons = {"the login is not root, and sudo -n does not work": None}
            text = f"Not read on {name}: {', '.join(parts)} ({'; '.join(reasons)})"
            found += textwrap.wrap(text, width, subsequent_indent="  ")
    return found


def _conclude(readings: Sequence[PairReading], findings: Sequence[Finding], seconds: float) -> str:
    count = len(findings)
    hosts = len({host.name for reading in readings for host in reading.hosts})
    verdict = "No finding" if not count else "1 finding" if count == 1 else f"{count} findings"
    return f"{verdict}: {hosts} {'host' if hosts == 1 else 'hosts'} read in {seconds:.1f} s."


def build_document(
    readings: Sequence[PairReading], findings: Sequence[Finding], seconds: float
) -> dict[str, Any]:
    """Return the JSON document of a report."""
    hosts = {host.name: host for reading in readings for host in reading.hosts}
    return {
        "schema": SCHEMA,
        "version": __version__,
        "status": "findings" if findings else "healthy",
        "error": "",
        "seconds": round(seconds, 3),
        "hosts": [
            {
                "name": host.name,
                "kernel": host.kernel,
                "os": host.os,
                "is_root": host.uid == 0,
                "unreadable": host.unreadable(),
            }
            for host in hosts.values()
        ],
        "pairs": [_pair_document(reading) for reading in readings],
        "findings": to_json(findings),
    }


def build_error(error: str) -> dict[str, Any]:
    """Return the JSON document of a run that could not read its hosts."""
    empty: dict[str, Any] = {"hosts": [], "pairs": [], "findings": [], "seconds": 0}
    return {"schema": SCHEMA, "version": __version__, "status": "unreachable", "error": error, **empty}


def _pair_document(reading: PairReading) -> dict[str, Any]:
    return {
        "client": reading.client.name,
        "server": reading.server.name if reading.server else "",
        "proxy": reading.proxy.name if reading.proxy else "",
        "connections": [_leg_document(leg) for leg in reading.connections],
    }


def _leg_document(leg: Leg) -> dict[str, Any]:
    made = leg.connection
    return {
        "client": leg.client.name,
        "server": leg.server.name if leg.server else "",
        "port": leg.port,
        "address": made.server_address if made else "",
        "attempts": to_document(made.attempts) if made else [],
        "is_mptcp": made.is_mptcp if made else None,
        "subflows": made.subflows if made else 0,
        "expected": made.expected if made else 0,
        "pairs": to_document(made.pairs) if made else [],
    }
