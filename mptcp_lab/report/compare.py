"""Show the comparison of two runs as lines for a terminal: by kind of change, then by claim and case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mptcp_lab.inventory.engines import PROXIES
from mptcp_lab.report.terminal import Line
from mptcp_lab.results.baseline import Change, Comparison, Difference
from mptcp_lab.results.result import Check, Result, number
from mptcp_lab.results.verdict import ExitCode

#: A measured figure that changed by less than this fraction is not reported.
NOISE = 0.1
STYLES = {Change.BROKE: "red", Change.UNDECIDED: "purple", Change.FIXED: "green", Change.SLOWER: "yellow"}
MEANINGS = {
    ExitCode.ALL_WELL: "nothing got worse",
    ExitCode.CLAIM_FAILED: "something broke",
    ExitCode.LAB_BROKEN: "nothing broke, but what the baseline decided is undecided",
}


def comparison_lines(comparison: Comparison, *, with_figures: bool = True) -> Iterator[Line]:
    """Yield the lines: both runs, every difference, the figures that moved, notes, counts."""
    yield [("baseline  ", "bold"), (describe_run(comparison.before), "")]
    yield [("compared  ", "bold"), (describe_run(comparison.after), "")]
    for change in Change:
        claims: dict[str, list[Difference]] = {}
        for each in comparison.select(change):
            claims.setdefault(each.check.id, []).append(each)
        for claim, found in claims.items():
            yield from _claim_lines(change, claim, found)
    if with_figures:
        before = {check.case: check for check in comparison.before.checks}
        moved = [
            line for check in comparison.after.checks for line in _figures(before.get(check.case), check)
        ]
        yield from ([("figure  ", "dim"), (line, "")] for line in moved)
    yield from ([("note  ", "bold"), (note, "")] for note in comparison.notes)
    yield _counts(comparison)


def exit_line(code: ExitCode) -> Line:
    """Return the line with the exit status of a comparison."""
    return [(f"exit status {int(code)}: {MEANINGS.get(code, 'the run itself ended so')}", "dim")]


def describe_run(result: Result) -> str:
    """Return the run's name, the kernels of its hosts and the versions of its proxies."""
    kernels = unique_facts(result.lab, "kernel")
    hosts = [host["facts"].get("versions") for host in result.lab.get("hosts", ())]
    by_host = [versions for versions in hosts if isinstance(versions, Mapping)]
    versions = [
        f"{name} {version}"
        for name in PROXIES
        for version in dict.fromkeys(str(found.get(name) or "") for found in by_host)
        if version
    ]
    parts = [result.run_id, *(["Linux " + ", ".join(kernels)] if kernels else []), *versions]
    return "; ".join([parts[0], ", ".join(parts[1:])]) if parts[1:] else parts[0]


def unique_facts(lab: Mapping[str, Any], name: str) -> list[str]:
    """Return the values of one fact on all hosts of a lab, each once, in the order of the hosts."""
    found = (str(host["facts"].get(name) or "") for host in lab.get("hosts", ()))
    return [value for value in dict.fromkeys(found) if value]


def _claim_lines(change: Change, claim: str, found: list[Difference]) -> Iterator[Line]:
    cases = f"{len(found)} case" + ("" if len(found) == 1 else "s")
    yield [(f"{change.value}  ", STYLES.get(change, "bold")), (claim, "bold"), (f"  {cases}", "dim")]
    for each in found:
        yield [("  ", ""), (_describe(each), "")]


def _describe(each: Difference) -> str:
    before, after = each.before, each.after
    if before is None or after is None:
        return f"{each.check.case}: {each.check.verdict.value}"
    if each.change is Change.SLOWER:
        ratio = f" ({after.duration / before.duration:.1f} times)" if before.duration else ""
        return f"{after.case}: {before.duration:.2f} s -> {after.duration:.2f} s{ratio}"
    reason = (after.reason or before.reason).partition("\n")[0]
    return f"{after.case}: {before.verdict.value} -> {after.verdict.value}" + (
        f" ({reason})" if reason else ""
    )


def _figures(before: Check | None, after: Check) -> Iterator[str]:
    old = {figure.name: figure for figure in before.figures} if before else {}
    for figure in after.figures:
        was = old.get(figure.name)
        if was is None or was.unit != figure.unit or was.value == figure.value:
            continue
        share = (figure.value - was.value) / abs(was.value) if was.value else float("inf")
        if abs(share) >= NOISE:
            percent = f" ({share:+.0%})" if was.value else ""
            unit = f" {figure.unit}" if figure.unit else ""
            yield f"{after.case}: {figure.name} {number(was.value)} -> {number(figure.value)}{unit}{percent}"


def _counts(comparison: Comparison) -> Line:
    line: Line = [("changes  ", "bold")]
    for place, change in enumerate(Change):
        count = len(comparison.select(change))
        style = STYLES.get(change, "") if count else ""
        line += [(", " if place else "", ""), (f"{count} {change.value}", style)]
    return line
