"""Distributions and pauses, by numbers."""

from __future__ import annotations

from pathlib import Path

from mptcp_lab.plugin import EvidenceBox
from mptcp_lab.suite.gaps import Distribution, Pauses, keep, within


def test_distribution_of_twenty_values() -> None:
    found = Distribution.of([float(value) for value in range(20, 0, -1)])
    assert found == Distribution(least=1.0, median=10.5, p95=19.0, most=20.0)


def test_distribution_of_one_value() -> None:
    assert Distribution.of([7.0]) == Distribution(7.0, 7.0, 7.0, 7.0)


def test_pauses_that_reach_into_the_time_count() -> None:
    times = [0.0, 1.0, 3.0, 3.5, 9.0]
    assert within(times, since=2.0, until=4.0) == [2.0, 0.5, 5.5]


def test_figures_say_where_the_two_clocks_disagree(tmp_path: Path) -> None:
    evidence = EvidenceBox(tmp_path, tmp_path)
    keep([Pauses(0.2, 0.203, 0.2), Pauses(0.3, 0.3, 0.4), Pauses(0.25, 0.24, 0.25)], evidence)
    figures = {figure.name: figure.value for figure in evidence.figures}
    assert figures["repetitions"] == 3
    assert (figures["gap, min"], figures["gap, max"]) == (200.0, 300.0)
    assert abs(figures["probe against capture"] - 3.0) < 1e-6
