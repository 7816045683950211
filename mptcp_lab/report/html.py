"""Render a run as one self-contained HTML page without scripts or external resources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mptcp_lab import catalogue
from mptcp_lab.report.side_by_side import Comparison, comparisons
from mptcp_lab.report.terminal import ENDINGS
from mptcp_lab.report.timeline import timeline
from mptcp_lab.report.topology import topology
from mptcp_lab.results.result import Attempt, Check, Evidence, Result, number
from mptcp_lab.results.verdict import Ending, ExitCode, Verdict
from mptcp_lab.text import make_printable
from mptcp_lab.untrusted import MOST_BYTES, parse_json

TEXT_SHOWN = 6000
ROWS_SHOWN = 60
#: Facts of a host that are not in its row of facts: the kernel has a column, and the others are long.
FACTS_LEFT_OUT = ("kernel", "kernel_build", "command_line", "architecture")


@dataclass(frozen=True)
class Table:
    """Rows of evidence with the same columns; ``hidden`` counts the rows that only the file has."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    hidden: int


@dataclass(frozen=True)
class Shown:
    """The evidence of one attempt, prepared for the page."""

    attempt: Attempt
    pictures: tuple[tuple[str, Markup], ...]
    tables: tuple[Table, ...]
    texts: tuple[tuple[str, str], ...]
    files: tuple[Evidence, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """A check and the evidence of its attempts; the last attempt is the deciding one."""

    check: Check
    attempts: tuple[Shown, ...]


@dataclass(frozen=True)
class Section:
    """The checks of a family, and the tables that compare figures of several checks."""

    name: str
    title: str
    rows: tuple[Row, ...]
    counts: dict[str, int]
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True)
class Highlight:
    """The picture at the top of the page: a connection that survives the loss of a path."""

    check: Check
    picture: Markup


def render(result: Result, folder: Path) -> str:
    """Return the page; ``folder`` is the run's folder, which contains the evidence files."""
    paths = [s["name"] for s in result.lab.get("segments", ()) if s["kind"] == "path"]
    sections = _sections(result, folder, paths)
    page: str = template("report.html.j2").render(
        result=result,
        counts={verdict: count for verdict, count in result.counts.items() if count},
        ending="" if result.ending is Ending.UNFINISHED else ENDINGS[ExitCode(result.exit_code)],
        started=_moment(result.started).strftime("%Y-%m-%d %H:%M:%S UTC"),
        seconds=f"{(_moment(result.finished) - _moment(result.started)).total_seconds():.1f}",
        topology=Markup(topology(result.lab)) if result.lab else "",  # noqa: S704 - escaped in svg
        facts=_facts(result.lab),
        highlight=_highlight(sections),
        causes=result.causes,
        grouped={case for shared in result.causes if len(shared.cases) > 1 for case in shared.cases},
        sections=sections,
    )
    return page


@cache
def template(name: str) -> Any:
    """Return a page's template, in which every text is escaped and made printable."""
    environment = Environment(
        loader=PackageLoader("mptcp_lab.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    environment.filters["spread"] = lambda row, table: Markup(table.picture(row))  # noqa: S704 - as in svg
    return environment.get_template(name)


def _finalize(value: object) -> object:
    """Make a value of the page printable; markup is left as it is, because its text is printable already."""
    return make_printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _sections(result: Result, folder: Path, paths: Sequence[str]) -> list[Section]:
    sections = []
    tables = comparisons(result)
    for family in catalogue.families():
        checks = [check for check in result.checks if check.family == family.name]
        if not checks:
            continue
        counts = {v.value: n for v in Verdict if (n := sum(check.verdict is v for check in checks))}
        order = [claim.id for claim in family.claims]
        checks.sort(key=lambda check: order.index(check.id) if check.id in order else len(order))
        rows = tuple(_row(check, folder, paths) for check in checks)
        mine = tuple(table for table in tables if table.family == family.name)
        sections.append(Section(family.name, family.title, rows, counts, mine))
    return sections


def _highlight(sections: Sequence[Section]) -> Highlight | None:
    """Return the first picture of a check that passed, in the catalogue's order, or None."""
    for row in (row for section in sections for row in section.rows):
        if row.check.verdict is Verdict.PASS and row.attempts[-1].pictures:
            return Highlight(row.check, row.attempts[-1].pictures[0][1])
    return None


def _row(check: Check, folder: Path, paths: Sequence[str]) -> Row:
    return Row(check, tuple(_show_attempt(attempt, folder, paths) for attempt in check.attempts))


def _show_attempt(attempt: Attempt, folder: Path, paths: Sequence[str]) -> Shown:
    pictures, tables, texts, files, missing = [], [], [], [], []
    for evidence in attempt.evidence:
        content = read_evidence(folder, evidence)
        try:
            if content is None:
                missing.append(evidence.file)
                continue
            if evidence.kind == "timeline":
                drawing = timeline(parse_json(content.decode()), paths)
                pictures.append((evidence.name, Markup(drawing)))  # noqa: S704 - escaped in svg
            elif evidence.kind in ("subflows", "packets"):
                tables.append(_table(evidence.name, parse_json(content.decode())))
            elif evidence.kind == "text":
                texts.append((evidence.name, _shorten(content.decode(errors="replace"))))
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError):
            missing.append(f"{evidence.file} (damaged)")
            continue
        files.append(evidence)
    return Shown(attempt, tuple(pictures), tuple(tables), tuple(texts), tuple(files), tuple(missing))


def read_evidence(folder: Path, evidence: Evidence) -> bytes | None:
    """Return the content of an evidence file, or None if it is missing or outside the run's folder."""
    try:
        path = (folder / evidence.file).resolve()
        if not path.is_relative_to(folder.resolve()) or not path.is_file():
            return None
        with path.open("rb") as file:
            return file.read(MOST_BYTES)  # a longer file is cut, and shown as damaged if it does not parse
    except (OSError, ValueError, RuntimeError):  # name too long or with a NUL, or a loop of symbolic links
        return None


def _shorten(text: str) -> str:
    return (
        text if len(text) <= TEXT_SHOWN else f"{text[:TEXT_SHOWN]}\n[shortened; the file has the whole text]"
    )


def _table(name: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    columns = tuple(dict.fromkeys(key for row in rows for key in row))
    cells = tuple(tuple(_cell(row.get(column)) for column in columns) for row in rows[:ROWS_SHOWN])
    return Table(name, columns, cells, max(0, len(rows) - ROWS_SHOWN))


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6f}".rstrip("0").rstrip(".")
    if isinstance(value, (list, tuple)):
        return ", ".join(_cell(item) for item in value)
    return str(value)


def _facts(lab: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return one tuple per host: its name, its kernel, and its other facts in words."""
    lines = []
    for host in lab.get("hosts", ()):
        others = {key: value for key, value in host["facts"].items() if key not in FACTS_LEFT_OUT}
        lines.append((host["name"], str(host["facts"].get("kernel", "")), _flat(others)))
    return lines if any(kernel or others for _, kernel, others in lines) else []


def _flat(facts: Mapping[str, Any]) -> str:
    parts = []
    for key, value in facts.items():
        parts.append(
            _flat(value) if isinstance(value, Mapping) else f"{key.replace('_', ' ')} {_cell(value)}"
        )
    return ", ".join(part for part in parts if part)
