"""Compare the results of two runs."""

from __future__ import annotations

from collections.abc import Iterator

from mptcp_lab.results.result import Check, Result, number
from mptcp_lab.text import to_one_line

# A measured figure that changed by less than this fraction is not reported.
NOISE = 0.1


def compare(before: Result, after: Result) -> list[str]:
    """Return one line per change: verdicts first, then figures, then checks that only one run has."""
    old = {check.case: check for check in before.checks}
    new = {check.case: check for check in after.checks}
    both = [(old[case], new[case]) for case in old if case in new]
    lines = [
        *(_verdict(a, b) for a, b in both if a.verdict is not b.verdict),
        *(line for a, b in both for line in _figures(a, b)),
        *(f"{case}: only in {before.run_id} ({old[case].verdict.value})" for case in old if case not in new),
        *(f"{case}: only in {after.run_id} ({new[case].verdict.value})" for case in new if case not in old),
    ]
    return [to_one_line(line) for line in lines]


def _verdict(a: Check, b: Check) -> str:
    reason = (b.reason or a.reason).partition("\n")[0]
    return f"{b.case}: {a.verdict.value} -> {b.verdict.value}" + (f" ({reason})" if reason else "")


def _figures(a: Check, b: Check) -> Iterator[str]:
    old = {figure.name: figure for figure in a.figures}
    for figure in b.figures:
        was = old.get(figure.name)
        if was is None or was.unit != figure.unit or was.value == figure.value:
            continue
        share = (figure.value - was.value) / abs(was.value) if was.value else float("inf")
        if abs(share) >= NOISE:
            percent = f" ({share:+.0%})" if was.value else ""
            unit = f" {figure.unit}" if figure.unit else ""
            yield f"{b.case}: {figure.name} {number(was.value)} -> {number(figure.value)}{unit}{percent}"
