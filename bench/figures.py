"""Figures of a benchmark: rounds, their median, minimum and maximum, beside a target."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """A measurement in `unit`, round by round; `target` is the most (or, with `at_least`, the least)."""

    name: str
    unit: str
    rounds: tuple[float, ...]
    target: float | None = None
    at_least: bool = False

    @property
    def median(self) -> float:
        """The figure to quote."""
        return statistics.median(self.rounds)

    @property
    def is_met(self) -> bool | None:
        """Whether the median meets the target; None without one."""
        if self.target is None:
            return None
        return self.median >= self.target if self.at_least else self.median <= self.target

    def row(self) -> str:
        """Return the figure as a line of the table."""
        target = "" if self.target is None else f"{self.target:g} {self.unit}"
        word = {None: "", True: "met", False: "NOT MET"}[self.is_met]
        spread = f"{min(self.rounds):.3g} to {max(self.rounds):.3g}"
        return f"{self.name:<52} {self.median:>8.3g} {self.unit:<4} {spread:<18} {target:<10} {word}"


def table(figures: Sequence[Figure]) -> str:
    """Return all figures as a table."""
    head = f"{'figure':<52} {'median':>8}      {'min to max':<18} {'target':<10}"
    return "\n".join([head, *(figure.row() for figure in figures)])


def write(path: Path, figures: Sequence[Figure]) -> None:
    """Write the figures with what they were measured on."""
    document = {
        "kernel": platform.release(),
        "figures": [{**asdict(figure), "median": figure.median, "met": figure.is_met} for figure in figures],
    }
    path.write_text(json.dumps(document, indent=1) + "\n")
