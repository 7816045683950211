"""Compare figures of several cases in one table: failover gaps by fault, and proxies under load."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from mptcp_lab.report import svg
from mptcp_lab.results.result import Check, Figure, Result, number

PICTURE_WIDTH, PICTURE_HEIGHT = 240, 18
#: The end of a case that names a proxy by engine and method.
FRONT = re.compile(r"[a-z]+-(?:native|preload)$")
UNDER_LOAD = ("PROXY-9", "PROXY-10", "PROXY-11")
#: The ends of the names of figures that a case has for each direction of a stream.
DIRECTIONS = (", upload", ", download")
GAPS = tuple(f"gap, {what}" for what in ("min", "median", "p95", "max"))


@dataclass(frozen=True)
class Row:
    """A row of a table; ``spread`` is minimum, median, 95th percentile and maximum for its picture."""

    name: str
    cells: tuple[str, ...]
    spread: tuple[float, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """A table with a title; ``columns`` are the headings after the column of row names."""

    family: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    def picture(self, row: Row) -> str:
        """Return a row's spread as SVG, on one scale for the whole table; empty if it has none."""
        most = max((max(each.spread, default=0.0) for each in self.rows), default=0.0)
        if not row.spread or not most:
            return ""
        least, median, p95, last = (4 + (PICTURE_WIDTH - 8) * value / most for value in row.spread)
        middle = PICTURE_HEIGHT / 2
        parts = [
            svg.tag("line", x1=least, y1=middle, x2=last, y2=middle, class_="whisker"),
            svg.tag("rect", x=least, y=middle - 4, width=max(1.0, p95 - least), height=8, class_="most"),
            svg.tag("line", x1=median, y1=middle - 7, x2=median, y2=middle + 7, class_="median"),
            svg.tag("line", x1=last, y1=middle - 4, x2=last, y2=middle + 4, class_="whisker"),
        ]
        title = svg.tag("title", f"from 0 to {number(most)} ms: min to p95, median, max")
        size = {"width": PICTURE_WIDTH, "height": PICTURE_HEIGHT}
        return svg.tag("svg", title + "".join(parts), class_="spread", role="img", **size)

    def lines(self) -> Iterator[str]:
        """Yield the lines of the table as text, with the title first."""
        table = [("", *self.columns), *((row.name, *row.cells) for row in self.rows)]
        widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
        yield self.title
        for line in table:
            cells = [f"{cell:>{width}}" for cell, width in zip(line[1:], widths[1:], strict=True)]
            yield "  ".join([f"  {line[0]:<{widths[0]}}", *cells])


def comparisons(result: Result) -> list[Comparison]:
    """Return the tables for which the run has figures."""
    checks = [check for check in result.checks if check.figures]
    return [table for table in (_failover(checks), _proxies(checks)) if table.rows]


def _failover(checks: list[Check]) -> Comparison:
    """Return the table with one row per fault and one column per figure.

    A case that measured both directions of a stream has a row for each.
    """
    found = [each for check in checks if check.id == "DIRECT-12" for each in _by_direction(check)]
    columns = dict.fromkeys(_heading(figure) for _, figures in found for figure in figures)
    rows = []
    for name, figures in found:
        cells = {_heading(figure): number(figure.value) for figure in figures}
        values = {figure.name: figure.value for figure in figures}
        spread = tuple(values[name] for name in GAPS if name in values)
        rows.append(
            Row(
                name,
                tuple(cells.get(column, "") for column in columns),
                spread if len(spread) == len(GAPS) else (),
            )
        )
    return Comparison("direct", "Failover gap by fault (DIRECT-12)", tuple(columns), tuple(rows))


def _by_direction(check: Check) -> Iterator[tuple[str, list[Figure]]]:
    """Yield row name and figures of a case: once, or for each direction that names of figures end with."""
    case = check.case.partition("[")[2].rstrip("]")
    common = [figure for figure in check.figures if not figure.name.endswith(DIRECTIONS)]
    rows: dict[str, list[Figure]] = {}
    for figure in check.figures:
        if figure.name.endswith(DIRECTIONS):
            name, _, direction = figure.name.rpartition(", ")
            rows.setdefault(direction, []).append(replace(figure, name=name))
    if not rows:
        yield case, common
    for direction, figures in rows.items():
        yield f"{case}, {direction}", common + figures


def _proxies(checks: list[Check]) -> Comparison:
    """Return the table with one row per figure and one column per engine and method."""
    fronts: dict[str, None] = {}
    rows: dict[str, dict[str, str]] = {}
    for check in checks:
        case = check.case.partition("[")[2].rstrip("]")
        if check.id not in UNDER_LOAD or not (front := FRONT.search(case)):
            continue
        fronts[front[0]] = None
        claim = f"{check.id} {case[: front.start()].replace('-', ' ')}".strip()
        for figure in check.figures:
            rows.setdefault(f"{claim}: {_heading(figure)}", {})[front[0]] = number(figure.value)
    lines = (Row(name, tuple(cells.get(front, "") for front in fronts)) for name, cells in rows.items())
    return Comparison("proxy", "Proxies under load (PROXY-9 to PROXY-11)", tuple(fronts), tuple(lines))


def _heading(figure: Figure) -> str:
    return f"{figure.name}, {figure.unit}" if figure.unit else figure.name
