"""Render a matrix as one static HTML page; filters are style sheets, so that it needs no script."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mptcp_lab import catalogue
from mptcp_lab.report.html import read_evidence, template
from mptcp_lab.report.matrix.columns import Column
from mptcp_lab.report.matrix.rows import KNOWN, CaseRow, Cell, ClaimRow
from mptcp_lab.results.result import number
from mptcp_lab.results.verdict import Verdict
from mptcp_lab.untrusted import parse_json

#: Limits for the evidence in a cell: characters of a reason, and packets.
REASON_SHOWN, PACKETS_SHOWN = 400, 6
KINDS = (*(verdict.value for verdict in Verdict), KNOWN)


@dataclass(frozen=True)
class Section:
    """Claims under one heading."""

    name: str
    title: str
    rows: tuple[ClaimRow, ...]


def render(columns: Sequence[Column], rows: Sequence[ClaimRow], notes: Sequence[str]) -> str:
    """Return the page; ``notes`` are sentences about results that were left out."""
    page: str = template("matrix.html.j2").render(
        columns=columns,
        counts=[_counts(rows, place) for place in range(len(columns))],
        sections=_sections(rows, len(columns)),
        families=[family for family in catalogue.FAMILIES if any(r.check.family == family for r in rows)],
        kinds=[kind for kind in KINDS if any(kind in row.kinds for row in rows)],
        notes=notes,
        evidence=show_evidence,
        merged=any(len(column.pieces) > 1 for column in columns),
        total=len(rows),
    )
    return page


def show_evidence(cell: Cell, case: CaseRow) -> list[str]:
    """Return what a cell leads to: time and figures; where it is no simple pass, also reason and packets."""
    check = cell.check
    parts = [f"{check.duration:.2f} s"] if check.attempts else ["not started"]
    parts += [f"{f.name} {number(f.value)}{' ' + f.unit if f.unit else ''}" for f in check.figures]
    lines = [", ".join(parts)]
    if cell.known:
        lines.append(f"known deviation: {' '.join((cell.known.sentence or cell.known.seen).split())}")
    if check.reason and check.verdict is not Verdict.PASS:
        lines += _shorten(check.reason).splitlines()
        lines += [f"at {check.where}"] if check.where else []
    if check.verdict is not Verdict.PASS or case.is_different:
        lines += _packets(cell)
        lines.append(f"run {cell.piece.result.run_id}")
    return lines


def _packets(cell: Cell) -> Iterator[str]:
    """Yield the first packets that a check kept, a line each."""
    for evidence in cell.check.evidence:
        if evidence.kind != "packets":
            continue
        content = read_evidence(cell.piece.folder, evidence)
        try:
            rows = parse_json((content or b"[]").decode())
            lines = [" ".join(str(value) for value in row.values()) for row in rows[:PACKETS_SHOWN]]
        except (ValueError, LookupError, AttributeError, TypeError):  # not a list of packets
            return
        yield from lines
        if len(rows) > PACKETS_SHOWN:
            yield f"and {len(rows) - PACKETS_SHOWN} more packets in the run's {evidence.file}"
        return


def _shorten(text: str) -> str:
    return text if len(text) <= REASON_SHOWN else f"{text[:REASON_SHOWN]}..."


def _counts(rows: Iterable[ClaimRow], place: int) -> dict[str, int]:
    cells = [case.cells[place] for row in rows for case in row.cases]
    found = Counter(cell.kind for cell in cells if cell)
    return {kind: found[kind] for kind in KINDS if found[kind]}


def _sections(rows: Sequence[ClaimRow], columns: int) -> list[Section]:
    """Return the differences first, then the other claims by family."""
    different = tuple(row for row in rows if row.is_different)
    sections = [Section("Differences", "claims with unlike verdicts in the columns", different)]
    for family in catalogue.families():
        others = tuple(r for r in rows if r.check.family == family.name and not r.is_different)
        if others:
            sections.append(Section(family.name.upper(), family.title, others))
    return sections if columns > 1 else sections[1:]
