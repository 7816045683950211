"""Render the history of a folder of results as one static page: changed verdicts and times come first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from statistics import median

from markupsafe import Markup

from mptcp_lab.report import svg
from mptcp_lab.report.compare import unique_facts
from mptcp_lab.report.html import template
from mptcp_lab.results.baseline import SLOWER_RATIO, SLOWER_S
from mptcp_lab.results.result import Check, Result, ResultError, load
from mptcp_lab.results.verdict import Verdict

#: The page shows this many runs, the newest.
RUNS_SHOWN = 60
CURVE_WIDTH, CURVE_HEIGHT = 120, 22


@dataclass(frozen=True)
class CaseHistory:
    """A case in every run, oldest first; None where a run has no verdict of it.

    ``comparable`` is true for each run whose waits were multiplied as those of the last run were, so that
    times can be compared.
    """

    case: str
    checks: tuple[Check | None, ...]
    comparable: tuple[bool, ...]

    @property
    def last(self) -> Check:
        """Return the newest check."""
        return next(check for check in reversed(self.checks) if check)

    @property
    def run_count(self) -> int:
        """Return the number of runs that have the case."""
        return sum(check is not None for check in self.checks)

    @cached_property
    def changes(self) -> tuple[tuple[int, Verdict, Verdict], ...]:
        """Return each change of the verdict: the run's place, the verdict before, the verdict after."""
        known = [(place, check.verdict) for place, check in enumerate(self.checks) if check]
        return tuple((place, was, now) for (_, was), (place, now) in pairwise(known) if was is not now)

    @cached_property
    def seconds(self) -> tuple[float, ...]:
        """Return the durations of the runs in which the case passed and whose times can be compared."""
        pairs = zip(self.checks, self.comparable, strict=True)
        return tuple(c.duration for c, same in pairs if c and same and c.verdict is Verdict.PASS)

    @property
    def ratio(self) -> float:
        """Return the last duration divided by the median of those before; 1.0 if it did not really change."""
        if len(self.seconds) < 2:
            return 1.0
        *earlier, now = self.seconds
        before = median(earlier)
        if abs(now - before) < SLOWER_S or not before:
            return 1.0
        found = now / before
        return found if found >= SLOWER_RATIO or found <= 1 / SLOWER_RATIO else 1.0

    @property
    def curve(self) -> Markup:
        """Return the durations as a small SVG picture; nothing for fewer than two."""
        if len(self.seconds) < 2:
            return Markup()
        most, step = max(self.seconds) or 1.0, CURVE_WIDTH / (len(self.seconds) - 1)
        height = CURVE_HEIGHT - 4
        points = " ".join(
            f"{place * step:.1f},{2 + height * (1 - seconds / most):.1f}"
            for place, seconds in enumerate(self.seconds)
        )
        line = svg.tag("polyline", points=points)
        box = f"0 0 {CURVE_WIDTH} {CURVE_HEIGHT}"
        drawn = svg.tag("svg", line, viewBox=box, width=CURVE_WIDTH, height=CURVE_HEIGHT, class_="spark")
        return Markup(drawn)  # noqa: S704 - numbers only


def read_runs(folder: Path) -> tuple[list[Result], list[str]]:
    """Return the results in a folder of runs, oldest first, and why others were left out.

    Raises:
        ResultError: the folder has no result that can be used.
    """
    runs, left_out = [], []
    for path in sorted(folder.glob("*/result.json")):
        if path.parent.is_symlink():
            continue
        try:
            runs.append(load(path))
        except ResultError as error:
            left_out.append(str(error))
    if not runs:
        why = left_out[0] if left_out else "no result.json in its folders; give a folder of runs"
        raise ResultError(f"{folder}: {why}")
    return sorted(runs, key=lambda run: run.started), left_out


def make_histories(runs: Sequence[Result]) -> list[CaseHistory]:
    """Return the history of each case, in the order of the newest run that has it."""
    checks = [{check.case: check for check in run.checks if check.attempts} for run in runs]
    comparable = tuple(run.made_by.patience == runs[-1].made_by.patience for run in runs)
    cases = dict.fromkeys(case for found in reversed(checks) for case in found)
    return [CaseHistory(case, tuple(found.get(case) for found in checks), comparable) for case in cases]


def render(runs: Sequence[Result], left_out: Sequence[str]) -> str:
    """Return the page: changed verdicts first (the newest change at the top), then times, then the rest."""
    shown = runs[-RUNS_SHOWN:]
    histories = make_histories(shown)
    verdicts = sorted((h for h in histories if h.changes), key=lambda h: (-h.changes[-1][0], -len(h.changes)))
    times = sorted((h for h in histories if not h.changes and h.ratio != 1.0), key=lambda h: -h.ratio)
    changed = {h.case for h in (*verdicts, *times)}
    page: str = template("history.html.j2").render(
        runs=shown,
        kernels=[", ".join(unique_facts(run.lab, "kernel")) for run in shown],
        hidden=len(runs) - len(shown),
        verdicts=verdicts,
        times=times,
        others=[h for h in histories if h.case not in changed],
        left_out=left_out,
    )
    return page
