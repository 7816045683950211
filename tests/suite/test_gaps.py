"""Distributions and pauses, by numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from mptcp_lab.plugin import EvidenceBox
from mptcp_lab.suite.directions import DOWNLOAD, UPLOAD
from mptcp_lab.suite.failover.gaps import Distribution, Pauses, keep, least_delays, pauses_between

GOOD = (0.0001, 0.0002)


def test_distribution_of_twenty_values() -> None:
    found = Distribution.from_values([float(value) for value in range(20, 0, -1)])
    assert found == Distribution(least=1.0, median=10.5, p95=19.0, most=20.0)


def test_distribution_of_one_value() -> None:
    assert Distribution.from_values([7.0]) == Distribution(7.0, 7.0, 7.0, 7.0)


def test_pauses_that_reach_into_the_time_count() -> None:
    times = [0.0, 1.0, 3.0, 3.5, 9.0]
    assert pauses_between(times, since=2.0, until=4.0) == [2.0, 0.5, 5.5]


def test_figures_say_where_the_two_clocks_disagree(tmp_path: Path) -> None:
    evidence = EvidenceBox(tmp_path, tmp_path)
    keep(
        [
            {UPLOAD: Pauses(0.2, 0.203, 0.2, GOOD)},
            {UPLOAD: Pauses(0.3, 0.3, 0.4, GOOD)},
            {UPLOAD: Pauses(0.25, 0.24, 0.25, (0.0, 0.004))},
        ],
        evidence,
    )
    figures = {figure.name: figure.value for figure in evidence.figures}
    assert figures["repetitions"] == 3
    assert (figures["gap, min"], figures["gap, max"]) == (200.0, 300.0)
    assert abs(figures["gaps apart, median"] - 3.0) < 1e-6
    assert abs(figures["clocks apart, median"] - 0.2) < 1e-6


def test_figures_of_two_directions_have_their_names(tmp_path: Path) -> None:
    evidence = EvidenceBox(tmp_path, tmp_path)
    keep([{UPLOAD: Pauses(0.2, 0.2, 0.2, GOOD), DOWNLOAD: Pauses(0.3, 0.3, 0.3, GOOD)}], evidence)
    figures = {figure.name: figure.value for figure in evidence.figures}
    assert (figures["gap, max, upload"], figures["gap, max, download"]) == (200.0, 300.0)
    assert figures["repetitions"] == 1


def test_least_delays_leave_scheduling_out() -> None:
    seen = [(1.0, 149), (2.0, 249), (5.0, 349), (6.0, 449)]  # 49 octets of greeting before the first
    got = [(1.3, 100), (2.0001, 200), (5.9, 300), (6.0002, 400)]
    before, after = least_delays(got, seen, split=3.0)
    assert abs(before - 0.0001) < 1e-9 and abs(after - 0.0002) < 1e-9


def test_a_clock_that_is_ahead_shows_in_every_delay() -> None:
    seen = [(1.0, 100), (2.0, 200)]
    assert least_delays([(0.9, 100), (2.5, 200)], seen, split=1.5) == pytest.approx((-0.1, 0.5))
