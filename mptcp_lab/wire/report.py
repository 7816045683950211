"""Render an analysis as text, JSON or HTML; all three show the same document."""

from __future__ import annotations

import html
import json
from typing import Any

from mptcp_lab.catalogue import corrections
from mptcp_lab.wire.capture import CaptureFile, packets
from mptcp_lab.wire.model import Analysis, Connection, Side, State, Stream, Subflow
from mptcp_lab.wire.rows import ROWS, Observation, Outcome, Row
from mptcp_lab.wire.words import option_words, subflow_state

#: Version of the JSON document.
SCHEMA = 2

Document = dict[str, Any]


def document(analysis: Analysis, capture: CaptureFile) -> Document:
    """Return the whole report as JSON types.

    Times are in seconds since the first segment; addresses are text.
    """
    start = analysis.start_ns or 0
    plain = [each for each in analysis.connections if each.state is State.TCP]
    others = [each for each in analysis.connections if each.state is not State.TCP]
    leftovers = [each for each in others if is_leftover(each)]
    shown = {each.id for each in others} - {each.id for each in leftovers}
    return {
        "schema": SCHEMA,
        "file": capture.name,
        "packets": capture.packets,
        "segments": capture.segments,
        "cut": capture.is_cut,
        "damage": capture.damage,
        "cut_headers": capture.cut_headers + capture.unattributed_count,
        "unread": [
            {"packets": count, "what": what.text, "tunnel": what.is_tunnel}
            for what, count in capture.unread.most_common()
        ],
        "copies": analysis.copies,
        "disorder": analysis.disorder,
        "start_ns": start,
        "duration_s": _seconds(analysis.end_ns, start),
        "malformed": [{"packet": packet, "reason": reason} for packet, reason in analysis.malformed],
        "plain_tcp": len(plain),
        "leftovers": [_leftover(each, start) for each in leftovers],
        "connections": [_connection(each, start) for each in others if each.id in shown],
        "plain_verdicts": _plain_verdicts(plain),
    }


def _seconds(time_ns: int, start_ns: int) -> float:
    return round((time_ns - start_ns) / 1e9, 6)


def is_leftover(connection: Connection) -> bool:
    """Return whether the capture has only the last packets of a connection, without data.

    Examples are a retransmitted SYN/ACK, a reset or an acknowledgement of a connection that began before the
    capture.
    """
    halves = [half for each in connection.subflows for half in (each.client, each.server)]
    is_empty = not any(half.payload for half in halves)
    has_begun = any(each.syn is not None or each.is_opening_cut for each in connection.subflows)
    one_way = any(not half.packets for half in halves) or connection.packets <= _MOST_LEFT
    is_late = connection.state is State.PARTIAL and is_empty and not has_begun and one_way
    return is_late and not any(row.check(connection).outcome is Outcome.BREACH for row in ROWS)


def shows_mptcp(connection: Connection) -> bool:
    """Return whether an MPTCP option of the connection was captured; all other statements depend on that."""
    halves = (half for each in connection.subflows for half in (each.client, each.server))
    return connection.state is not State.PARTIAL or any(half.mptcp_packets for half in halves)


#: The most packets without data in a connection's last exchange of FINs or resets.
_MOST_LEFT = 6


def _leftover(connection: Connection, start: int) -> Document:
    subflow = connection.subflows[0]
    return {
        "id": connection.id,
        "source": [str(subflow.src), subflow.sport],
        "destination": [str(subflow.dst), subflow.dport],
        "first_packet": subflow.first_packet,
        "start_s": _seconds(subflow.start_ns, start),
        "packets": connection.packets,
    }


def _connection(connection: Connection, start: int) -> Document:
    fallback = connection.fallback
    return {
        "id": connection.id,
        "state": connection.state.value,
        "version": connection.version,
        "shows_mptcp": shows_mptcp(connection),
        "packets": connection.packets,
        "incomplete": connection.incomplete,
        "gaps": [
            {"lack": each.lack.value, "text": each.text, "packet": each.packet} for each in connection.gaps
        ],
        "fallback": fallback
        and {
            "packet": fallback.packet,
            "time_s": _seconds(fallback.time_ns, start),
            "reason": fallback.reason,
        },
        "unknown_token": _hex(connection.unknown_token, 8),
        "streams": {side.value: _stream(connection.stream(side)) for side in Side},
        "subflows": [_subflow(connection, each, start) for each in connection.subflows],
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


def _subflow(connection: Connection, subflow: Subflow, start: int) -> Document:
    established = subflow.established_ns
    return {
        "id": subflow.id,
        "state": subflow_state(connection, subflow),
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
        "closed": subflow.is_closed,
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
            "what": option_words(each.option),
        }
        for each in sorted((each for log in logs for each in log), key=lambda each: each.packet)
    ]


def _verdicts(connection: Connection) -> list[Document]:
    return [_verdict(row, row.check(connection)) for row in ROWS]


def _verdict(row: Row, seen: Observation) -> Document:
    return {
        "id": row.id,
        "alias": row.alias,
        "level": row.level.value,
        "requirement": row.requirement,
        "outcome": seen.outcome.value,
        "packets": list(seen.packets),
        "detail": seen.detail,
        "known": _known_deviation(row) if seen.outcome is Outcome.KNOWN else None,
    }


def _known_deviation(row: Row) -> Document:
    """Return the kernel and the sentence of the correction that explains a known deviation."""
    correction = next(each for each in corrections() if each.claim == row.id)
    return {"kernel": correction.kernel, "sentence": correction.sentence}


def _plain_verdicts(connections: list[Connection]) -> list[Document]:
    """Return the breaches on plain TCP connections: only an answer to a SYN without MP_CAPABLE can be one."""
    return [
        {"connection": each.id, **verdict}
        for each in connections
        for verdict in _verdicts(each)
        if verdict["outcome"] == Outcome.BREACH.value
    ]


def _hex(value: int | None, digits: int) -> str | None:
    return None if value is None else f"{value:0{digits}x}"


def as_json(report: Document) -> str:
    """Return the document as JSON text."""
    return json.dumps(report, indent=2) + "\n"


def as_text(report: Document) -> str:
    """Return the document as text for a terminal."""
    lines = _text_file(report)
    for connection in report["connections"]:
        lines += ["", *_text_connection(connection)]
    return "\n".join(lines) + "\n"


def _text_file(report: Document) -> list[str]:
    """Return the lines about the whole file: its size and its defects."""
    cut = ", cut short" if report["cut"] else ""
    unknown = sum(not each["shows_mptcp"] for each in report["connections"])
    counts = [f"{len(report['connections']) - unknown} MPTCP connections", f"{report['plain_tcp']} plain TCP"]
    counts += [f"{unknown} unknown"] * bool(unknown)
    lines = [
        f"{report['file']}: {packets(report['packets'])} in {report['duration_s']:.3f} s{cut}; "
        f"{', '.join(counts)}"
    ]
    if report["damage"]:
        lines.append(f"  {report['damage']}; what comes after is not read")
    if report["disorder"]:
        lines.append(
            f"  packets are not in order of time from {report['disorder']} on, verdicts may be wrong; "
            f"run: reordercap {report['file']} SORTED"
        )
    if report["cut_headers"]:
        lines.append(
            f"  the snap length cuts the TCP headers of {packets(report['cut_headers'])}: nothing is "
            "concluded from them; capture again with: tcpdump -s 128"
        )
    lines += [f"  not read: {packets(each['packets'])} {each['what']}" for each in report["unread"]]
    if report["copies"]:
        lines.append(
            f"  {packets(report['copies'])} twice in the capture, as they are or with translated addresses "
            "(-i any, NAT): counted once"
        )
    if report["leftovers"]:
        firsts = " ".join(str(each["first_packet"]) for each in report["leftovers"][:8])
        more = " ..." if len(report["leftovers"]) > 8 else ""
        lines.append(
            f"  leftovers of {len(report['leftovers'])} connections from before the capture, without data "
            f"[packets {firsts}{more}]"
        )
    lines += [
        f"  malformed option in packet {each['packet']}: {each['reason']}" for each in report["malformed"]
    ]
    return lines


def _text_connection(connection: Document) -> list[str]:
    shown = [each for each in connection["verdicts"] if each["outcome"] != Outcome.NOT_OBSERVED.value]
    lines = _text_facts(connection)
    counts = f"{len(shown)} of {len(connection['verdicts'])}"
    lines.append(f"  {counts} requirements observed, as far as packets show them:")
    for each in shown:
        lines += ["    " + line for line in _text_verdict(each)]
    return lines


def _text_facts(connection: Document) -> list[str]:
    """Return the lines about a connection: its state, streams, subflows and events, without verdicts."""
    state = connection["state"]
    if connection["version"] == 0:
        state += ", version 0 (RFC 6824; RFC 8684 is not held against it)"
    if connection["fallback"]:
        state += f" (packet {connection['fallback']['packet']}: {connection['fallback']['reason']})"
    if connection["incomplete"]:
        state += ", capture incomplete"
    lines = [f"connection {connection['id']}: {state}"]
    lines += [f"  incomplete: {each['text']}" for each in connection["gaps"][:_GAPS_SHOWN]]
    if len(connection["gaps"]) > _GAPS_SHOWN:
        lines.append(f"  incomplete: and {len(connection['gaps']) - _GAPS_SHOWN} gaps more")
    for side, stream in connection["streams"].items():
        token = f"token {stream['token']}" if stream["token"] else "token unknown"
        lines.append(f"  {side}: {token}, {stream['octets']} octets, {stream['reinjected']} reinjected")
    lines += ["  " + line for each in connection["subflows"] for line in _text_subflow(each)]
    events = [(each["packet"], f"{each['side']} sends {each['what']}") for each in connection["events"]]
    for each in connection["announcements"]:
        port = f" port {each['port']}" if each["port"] else ""
        text = f"{each['side']} announces {each['address']}{port} (id {each['id']})"
        events.append((each["packet"], text))
    lines += [f"  packet {packet}: {text}" for packet, text in sorted(events)]
    return lines


_GAPS_SHOWN = 4


def _text_subflow(subflow: Document) -> list[str]:
    source, destination = ("[{}]:{}".format(*subflow[end]) for end in ("source", "destination"))
    sent = ", ".join(f"{side} {half['octets']}" for side, half in subflow["halves"].items())
    flags = "".join(f", {side} asks for backup" for side, half in subflow["halves"].items() if half["backup"])
    start = f"{subflow['start_s']:.3f} s"
    return [
        f"subflow {subflow['id']}: {source} > {destination} at {start}, octets: {sent}{flags}",
        f"  {subflow['state']}",
    ]


def _text_verdict(verdict: Document) -> list[str]:
    packets = " ".join(map(str, verdict["packets"][:8])) or "-"
    detail = f" ({verdict['detail']})" if verdict["detail"] else ""
    head = f"{verdict['outcome']:<6} {verdict['alias']} {verdict['id']} {verdict['level']}"
    lines = [f"{head}: {verdict['requirement']}{detail} [packets {packets}]"]
    if verdict["known"]:
        lines.append(f"       {_known_words(verdict['known'])}")
    return lines


def _known_words(known: Document) -> str:
    return f"known deviation of Linux {known['kernel']}: {known['sentence']}"


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>body{{font:15px/1.4 sans-serif;margin:2em;max-width:75em}}
table{{border-collapse:collapse;margin:.5em 0}}
td,th{{border:1px solid #bbb;padding:.2em .5em;text-align:left;vertical-align:top}}
.ok{{background:#dfd}}.known{{background:#ffd}}.breach{{background:#fcc}}.not-observed{{color:#777}}</style>
<h1>{title}</h1><p style="white-space:pre-line">{summary}</p>
{body}
</html>
"""


def as_html(report: Document) -> str:
    """Return the document as one self-contained HTML page."""
    parts = []
    for connection in report["connections"]:
        head, *lines = _text_facts(connection)
        parts.append(f"<h2>{html.escape(head)}</h2>")
        parts.append(f"<pre>{html.escape(chr(10).join(lines))}</pre>")
        parts.append(_html_verdicts(connection["verdicts"]))
    summary = "\n".join(_text_file(report))[len(report["file"]) + 2 :]
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
            "; ".join(filter(None, (each["detail"], each["known"] and _known_words(each["known"])))),
            " ".join(map(str, each["packets"])),
        )
        columns = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        rows.append(f'<tr class="{each["outcome"]}">{columns}</tr>')
    heads = "".join(
        f"<th>{each}</th>" for each in ("outcome", "row", "id", "level", "requirement", "detail", "packets")
    )
    return f"<table><tr>{heads}</tr>{''.join(rows)}</table>"
