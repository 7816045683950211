"""Figures of several cases in one table."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from xml.etree import ElementTree

from mptcp_lab.catalogue.level import Level
from mptcp_lab.report import html
from mptcp_lab.report.side_by_side import comparisons
from mptcp_lab.report.terminal import summary
from mptcp_lab.results.result import Check, Figure, Result
from mptcp_lab.results.verdict import Outcome, Verdict
from tests.report.conftest import a_check, an_attempt

GAPS = ("min", "median", "p95", "max")


def measured(case: str, *figures: Figure) -> Check:
    return a_check(case, Verdict.PASS, an_attempt(Outcome.HELD, "", *figures), level=Level.INFO)


def gaps(case: str, *values: float) -> Check:
    figures = (Figure(f"gap, {name}", value, "ms") for name, value in zip(GAPS, values, strict=True))
    return measured(f"DIRECT-12[{case}]", *figures)


def with_checks(run: Result, *checks: Check) -> Result:
    return dataclasses.replace(run, checks=(*run.checks, *checks))


def test_no_table_without_figures_for_it(run: Result) -> None:
    assert comparisons(run) == []


def test_a_row_per_fault(run: Result) -> None:
    (table,) = comparisons(with_checks(run, gaps("cable-out", 5, 200, 210, 400), gaps("reset", 1, 2, 3, 4)))
    assert table.columns == tuple(f"gap, {name}, ms" for name in GAPS)
    assert [(row.name, row.cells) for row in table.rows] == [
        ("cable-out", ("5", "200", "210", "400")),
        ("reset", ("1", "2", "3", "4")),
    ]


def test_a_row_per_direction(run: Result) -> None:
    figures = [
        Figure(f"gap, {name}, {way}", value, "ms")
        for way, value in (("upload", 20), ("download", 30))
        for name in GAPS
    ]
    both = measured("DIRECT-12[both-reset]", Figure("repetitions", 1, ""), *figures)
    (table,) = comparisons(with_checks(run, both))
    assert table.columns == ("repetitions", *(f"gap, {name}, ms" for name in GAPS))
    assert [(row.name, row.cells, row.spread) for row in table.rows] == [
        ("both-reset, upload", ("1", "20", "20", "20", "20"), (20, 20, 20, 20)),
        ("both-reset, download", ("1", "30", "30", "30", "30"), (30, 30, 30, 30)),
    ]


def test_pictures_share_a_scale(run: Result) -> None:
    (table,) = comparisons(with_checks(run, gaps("long", 0, 200, 400, 400), gaps("short", 0, 20, 40, 40)))
    ends = []
    for row in table.rows:
        picture = ElementTree.fromstring(table.picture(row))
        whisker = next(each for each in picture if each.get("class") == "whisker")
        ends.append(float(whisker.get("x2") or 0) - float(whisker.get("x1") or 0))
    assert abs(ends[0] - 10 * ends[1]) < 1


def test_a_column_per_front(run: Result) -> None:
    checks = [
        measured("PROXY-11[haproxy-native]", Figure("goodput", 900.5, "Mbit/s")),
        measured("PROXY-10[at-once-haproxy-native]", Figure("counted by origin", 1000, "")),
        measured("PROXY-10[at-once-nginx-preload]", Figure("counted by origin", 1000, "")),
        measured("PROXY-1[haproxy-native]", Figure("not under load", 1, "")),
    ]
    (table,) = comparisons(with_checks(run, *checks))
    assert table.columns == ("haproxy-native", "nginx-preload")
    assert [(row.name, row.cells) for row in table.rows] == [
        ("PROXY-11: goodput, Mbit/s", ("900", "")),
        ("PROXY-10 at once: counted by origin", ("1000", "1000")),
    ]


def test_both_views_show_the_tables(run: Result, tmp_path: Path) -> None:
    shown = with_checks(run, gaps("cable <out>", 5, 200, 210, 400))
    page = html.render(shown, tmp_path)
    assert "Failover gap by fault" in page and 'class="spread"' in page
    assert "cable &lt;out&gt;" in page and "cable <out>" not in page
    printed = ["".join(text for text, _ in line) for line in summary(shown)]
    assert any(line.split() == ["cable", "<out>", "5", "200", "210", "400"] for line in printed)
