"""An analysis for people and programs: text, JSON, HTML. All three show the same document."""

from __future__ import annotations

import html
import json
from typing import Any

from mptcp_lab.wire.capture import CaptureFile
from mptcp_lab.wire.model import Analysis, Connection, Side, State, Stream, Subflow
from mptcp_lab.wire.rows import ROWS, Outcome

SCHEMA = 1
"""Version of the JSON document."""

Document = dict[str, Any]


def document(analysis: Analysis, capture: CaptureFile) -> Document:
    """The whole report as JSON types. Times are in seconds from the first segment, addresses are text."""
    start = analysis.start_ns or 0
    plain = [each for each in analysis.connections if each.state is State.TCP]
    return {
        "schema": SCHEMA,
        "file": str(capture.path),
        "packets": capture.packets,
        "segments": capture.segments,
        "cut": capture.cut,
        "disorder": analysis.disorder,
        "start_ns": start,
        "duration_s": _seconds(analysis.end_ns, start),
        "malformed": [{"packet": packet, "reason": reason} for packet, reason in analysis.malformed],
        "plain_tcp": len(plain),
        "connections": [_connection(each, start) for each in analysis.connections if each not in plain],
        "plain_verdicts": _plain_verdicts(plain),
    }


def _seconds(time_ns: int, start_ns: int) -> float:
    return round((time_ns - start_ns) / 1e9, 6)


def _connection(connection: Connection, start: int) -> Document:
    fallback = connection.fallback
    return {
        "id": connection.id,
        "state": connection.state.value,
        "incomplete": connection.incomplete,
        "fallback": fallback
        and {
            "packet": fallback.packet,
            "time_s": _seconds(fallback.time_ns, start),
            "reason": fallback.reason,
        },
        "unknown_token": _hex(connection.unknown_token, 8),
        "streams": {side.value: _stream(connection.stream(side)) for side in Side},
        "subflows": [_subflow(each, start) for each in connection.subflows],
        "announcements": [
            {
                "packet": each.packet,
                "time_s": _seconds(each.time_ns, start),
                "side": each.side.value,
                "id": each.option.address_id,
                "address": str(each.option.address),
                "port": each.option.port,
            }
            for each in connection.announcements
        ],
        "events": _events(connection, start),
        "reinjections": {
            "count": connection.reinjections.total,
            "octets": connection.client.reinjected + connection.server.reinjected,
            "first": [
                {
                    "packet": each.packet,
                    "time_s": _seconds(each.time_ns, start),
                    "side": each.side.value,
                    "subflow": each.subflow,
                    "dsn": each.dsn,
                    "octets": each.length,
                    "of_packet": each.of_packet,
                    "of_subflow": each.of_subflow,
                }
                for each in connection.reinjections
            ],
        },
        "findings": [
            {"kind": each.kind, "packet": each.packet, "side": each.side.value, "detail": each.detail}
            for each in connection.findings
        ],
        "verdicts": _verdicts(connection),
    }


def _stream(stream: Stream) -> Document:
    return {
        "key": _hex(stream.key, 16),
        "token": _hex(stream.token, 8),
        "idsn": stream.idsn,
        "data_ack": stream.acked,
        "mappings": stream.mappings,
        "checksummed": stream.checksummed,
        "octets": sum(end - start for start, end in stream.mapped),
        "reinjected": stream.reinjected,
        "data_fin_packet": stream.data_fin_packet,
        "data_fin_acked_packet": stream.data_fin_acked_packet,
    }


def _subflow(subflow: Subflow, start: int) -> Document:
    established = subflow.established_ns
    return {
        "id": subflow.id,
        "opener": subflow.opener.value,
        "joined": subflow.joined,
        "source": [str(subflow.src), subflow.sport],
        "destination": [str(subflow.dst), subflow.dport],
        "address_ids": [subflow.opener_id, subflow.responder_id],
        "first_packet": subflow.first_packet,
        "start_s": _seconds(subflow.start_ns, start),
        "established_s": None if established is None else _seconds(established, start),
        "last_s": _seconds(subflow.last_ns, start),
        "syns": subflow.syns,
        "closed": subflow.closed,
        "halves": {
            half.side.value: {
                "octets": half.payload,
                "retransmitted": half.retransmitted,
                "new_data": half.new_data,
                "backup": half.backup,
                "fin_packet": half.fin_packet,
                "rst_packet": half.rst_packet,
            }
            for half in (subflow.client, subflow.server)
        },
    }


def _events(connection: Connection, start: int) -> list[Document]:
    logs = (
        connection.old_announcements,
        connection.echoes,
        connection.removals,
        connection.priorities,
        connection.fails,
        connection.fastcloses,
        connection.resets,
    )
    return [
        {
            "packet": each.packet,
            "time_s": _seconds(each.time_ns, start),
            "side": each.side.value,
            "subflow": each.subflow,
            "option": each.option.name,
            "what": str(each.option),
        }
        for each in sorted((each for log in logs for each in log), key=lambda each: each.packet)
    ]


def _verdicts(connection: Connection) -> list[Document]:
    verdicts = []
    for row in ROWS:
        seen = row.check(connection)
        verdicts.append(
            {
                "id": row.id,
                "alias": row.alias,
                "level": row.level.value,
                "requirement": row.requirement,
                "outcome": seen.outcome.value,
                "packets": list(seen.packets),
                "detail": seen.detail,
            }
        )
    return verdicts


def _plain_verdicts(connections: list[Connection]) -> list[Document]:
    """Plain TCP connections have one thing to show: what answers a SYN without MP_CAPABLE. Breaches only."""
    return [
        {"connection": each.id, **verdict}
        for each in connections
        for verdict in _verdicts(each)
        if verdict["outcome"] == Outcome.BREACH.value
    ]


def _hex(value: int | None, digits: int) -> str | None:
    return None if value is None else f"{value:0{digits}x}"


def as_json(report: Document) -> str:
    """The document as JSON text."""
    return json.dumps(report, indent=2) + "\n"


def as_text(report: Document) -> str:
    """The document for a terminal."""
    lines = _text_file(report)
    for connection in report["connections"]:
        lines += ["", *_text_connection(connection)]
    return "\n".join(lines) + "\n"


def _text_file(report: Document) -> list[str]:
    """What is to be said of the file as a whole: its size and its flaws."""
    cut = ", cut short" if report["cut"] else ""
    lines = [
        f"{report['file']}: {report['packets']} packets in {report['duration_s']:.3f} s{cut}; "
        f"{len(report['connections'])} MPTCP connections, {report['plain_tcp']} plain TCP"
    ]
    if report["disorder"]:
        lines.append(
            f"  packets are not in order of time from {report['disorder']} on, verdicts may be wrong; "
            f"run: reordercap {report['file']} SORTED"
        )
    lines += [
        f"  malformed option in packet {each['packet']}: {each['reason']}" for each in report["malformed"]
    ]
    return lines


def _text_connection(connection: Document) -> list[str]:
    state = connection["state"]
    if connection["fallback"]:
        state += f" (packet {connection['fallback']['packet']}: {connection['fallback']['reason']})"
    if connection["incomplete"]:
        state += ", capture incomplete"
    lines = [f"connection {connection['id']}: {state}"]
    for side, stream in connection["streams"].items():
        token = f"token {stream['token']}" if stream["token"] else "token unknown"
        lines.append(f"  {side}: {token}, {stream['octets']} octets, {stream['reinjected']} reinjected")
    lines += ["  " + line for each in connection["subflows"] for line in _text_subflow(each)]
    lines += [f"  packet {each['packet']}: {each['side']} {each['what']}" for each in connection["events"]]
    for each in connection["announcements"]:
        port = f" port {each['port']}" if each["port"] else ""
        lines.append(
            f"  packet {each['packet']}: {each['side']} announces {each['address']}{port} (id {each['id']})"
        )
    shown = [each for each in connection["verdicts"] if each["outcome"] != Outcome.NOT_OBSERVED.value]
    lines.append(f"  {len(shown)} of {len(connection['verdicts'])} requirements observed:")
    for each in shown:
        lines.append("    " + _text_verdict(each))
    return lines


def _text_subflow(subflow: Document) -> list[str]:
    source, destination = ("[{}]:{}".format(*subflow[end]) for end in ("source", "destination"))
    sent = ", ".join(f"{side} {half['octets']}" for side, half in subflow["halves"].items())
    flags = "".join(f", {side} asks for backup" for side, half in subflow["halves"].items() if half["backup"])
    start = f"{subflow['start_s']:.3f} s"
    return [f"subflow {subflow['id']}: {source} > {destination} at {start}, octets: {sent}{flags}"]


def _text_verdict(verdict: Document) -> str:
    packets = " ".join(map(str, verdict["packets"][:8])) or "-"
    detail = f" ({verdict['detail']})" if verdict["detail"] else ""
    head = f"{verdict['outcome']:<6} {verdict['alias']} {verdict['id']} {verdict['level']}"
    return f"{head}: {verdict['requirement']}{detail} [packets {packets}]"


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>body{{font:15px/1.4 sans-serif;margin:2em;max-width:75em}}
table{{border-collapse:collapse;margin:.5em 0}}
td,th{{border:1px solid #bbb;padding:.2em .5em;text-align:left;vertical-align:top}}
.ok{{background:#dfd}}.breach{{background:#fcc}}.not-observed{{color:#777}}</style>
<h1>{title}</h1><p style="white-space:pre-line">{summary}</p>
{body}
</html>
"""


def as_html(report: Document) -> str:
    """The document as one self-contained page."""
    parts = []
    for connection in report["connections"]:
        head, *lines = _text_connection({**connection, "verdicts": []})
        parts.append(f"<h2>{html.escape(head)}</h2>")
        parts.append(f"<pre>{html.escape(chr(10).join(lines[:-1]))}</pre>")
        parts.append(_html_verdicts(connection["verdicts"]))
    summary = "\n".join(_text_file(report)).split(": ", 1)[1]
    return _PAGE.format(
        title=html.escape(report["file"]), summary=html.escape(summary), body="\n".join(parts)
    )


def _html_verdicts(verdicts: list[Document]) -> str:
    rows = []
    for each in verdicts:
        cells = (
            each["outcome"],
            each["alias"],
            each["id"],
            each["level"],
            each["requirement"],
            each["detail"],
            " ".join(map(str, each["packets"])),
        )
        columns = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        rows.append(f'<tr class="{each["outcome"]}">{columns}</tr>')
    heads = "".join(
        f"<th>{each}</th>" for each in ("outcome", "row", "id", "level", "requirement", "detail", "packets")
    )
    return f"<table><tr>{heads}</tr>{''.join(rows)}</table>"
