"""Compare a run with an earlier one, case by case: what broke, was fixed, is new, gone or slower.

Pure: `compare` takes two results, and the exit status follows from what got worse only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum

from mptcp_lab.results.result import Check, Result
from mptcp_lab.results.verdict import Ending, ExitCode, Verdict

#: A passed case is slower if it takes this many times as long, and at least this many seconds longer.
SLOWER_RATIO, SLOWER_S = 1.5, 1.0
HOLDS = frozenset({Verdict.PASS, Verdict.FLAKY})
#: Verdicts that decide about the claim.
DECIDED = HOLDS | {Verdict.NON_STRICT, Verdict.FAIL}
#: Endings of a run that was cut short: its exit code does not depend on the baseline.
CUT_SHORT = frozenset({Ending.LAB_BROKEN, Ending.LAB_BUSY, Ending.INTERRUPTED, Ending.UNFINISHED})
#: Options that select cases; a run with one of them has not all cases.
SELECTIONS = ("claim", "family", "fast")


class Change(StrEnum):
    """How a case differs from the baseline; only ``broke`` and ``undecided`` change the exit status."""

    BROKE = "broke"
    UNDECIDED = "undecided"
    FIXED = "fixed"
    OTHER = "other"
    NEW = "new"
    GONE = "gone"
    SLOWER = "slower"


@dataclass(frozen=True)
class Difference:
    """One case that differs: its check in the baseline and in the later run, or None where it is missing."""

    change: Change
    before: Check | None
    after: Check | None

    @property
    def check(self) -> Check:
        """Return the later check, or the earlier one of a case that is gone."""
        found = self.after or self.before
        assert found is not None, "a difference has at least one check"
        return found


@dataclass(frozen=True)
class Comparison:
    """The differences between two runs, in the order of their cases, and notes about what limits them."""

    before: Result
    after: Result
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]

    def select(self, change: Change) -> list[Difference]:
        """Return the differences of one kind."""
        return [each for each in self.differences if each.change is change]

    @property
    def exit_code(self) -> ExitCode:
        """Return 1 if a case broke, 4 if none broke and a decided case is undecided now, else 0."""
        if self.select(Change.BROKE):
            return ExitCode.CLAIM_FAILED
        return ExitCode.LAB_BROKEN if self.select(Change.UNDECIDED) else ExitCode.ALL_WELL


def compare(before: Result, after: Result) -> Comparison:
    """Return what differs between two runs; times are compared only where the waits of both were equal."""
    old = {check.case: check for check in before.checks}
    new = {check.case: check for check in after.checks}
    with_times = _has_equal_patience(before, after)
    cases = [*old, *(case for case in new if case not in old)]
    changes = {case: classify(old.get(case), new.get(case), with_times=with_times) for case in cases}
    waiting = {entry.case for entry in after.not_run if changes.get(entry.case) is Change.GONE}
    unstarted = {entry.case for entry in before.not_run if changes.get(entry.case) is Change.NEW}
    one_sided = [
        case
        for case, change in changes.items()
        if change is Change.NEW and has_selection(before) and case not in unstarted
    ]
    one_sided += [
        case
        for case, change in changes.items()
        if change is Change.GONE and has_selection(after) and case not in waiting
    ]
    notes = [*_notes(before, after)]
    if waiting:
        notes.append(f"{_count(waiting)} of the baseline not started: {after.not_run[0].reason}")
    if unstarted:
        notes.append(f"{_count(unstarted)} not compared: not started in the baseline")
    if one_sided:
        notes.append(f"{_count(one_sided)} not compared: only one run's options selected them")
    left_out = waiting.union(unstarted, one_sided)
    differences = tuple(
        Difference(change, old.get(case), new.get(case))
        for case, change in changes.items()
        if change and case not in left_out
    )
    return Comparison(before, after, differences, tuple(notes))


def classify(before: Check | None, after: Check | None, *, with_times: bool = True) -> Change | None:
    """Return how a case differs, or None if it does not.

    A case broke if it fails and did not fail before, or if a SHOULD held and does not hold any more. It is
    undecided if the baseline decided it and the later run did not: it is unsupported or inconclusive there.
    """
    if before is None or after is None:
        return Change.NEW if before is None else Change.GONE
    if before.verdict is after.verdict:
        return Change.SLOWER if with_times and _is_slower(before, after) else None
    if after.verdict is Verdict.FAIL or (after.verdict is Verdict.NON_STRICT and before.verdict in HOLDS):
        return Change.BROKE
    if after.verdict not in DECIDED:
        return Change.UNDECIDED if before.verdict in DECIDED else Change.OTHER
    if before.verdict is Verdict.FAIL or (after.verdict in HOLDS and before.verdict not in HOLDS):
        return Change.FIXED
    return Change.FIXED if before.verdict is Verdict.FLAKY else Change.OTHER


def has_selection(result: Result) -> bool:
    """Return whether the options of a run selected some of the cases only."""
    return any(result.options.get(name) for name in SELECTIONS)


def exit_code(comparison: Comparison, own: ExitCode, *, has_other_failures: bool) -> ExitCode:
    """Return the exit code of a run with a baseline; ``own`` is its exit code without one.

    A broken or busy lab, an interruption, a run in which nothing ran, and a deadline under ``--expect-all``
    keep their codes. A failure of the baseline does not count again.
    """
    after = comparison.after
    is_incomplete = after.ending in CUT_SHORT or (
        after.ending is Ending.DEADLINE and bool(after.options.get("expect_all"))
    )
    if is_incomplete or own is ExitCode.NOTHING_RAN:
        return own
    return ExitCode.CLAIM_FAILED if has_other_failures else comparison.exit_code


def _is_slower(before: Check, after: Check) -> bool:
    if after.verdict is not Verdict.PASS:
        return False
    longer = after.duration - before.duration
    return longer >= SLOWER_S and after.duration >= SLOWER_RATIO * before.duration


def _has_equal_patience(before: Result, after: Result) -> bool:
    return before.made_by.patience == after.made_by.patience


def _notes(before: Result, after: Result) -> Iterator[str]:
    if before.schema != after.schema:
        older = "baseline" if before.schema < after.schema else "later run"
        least = min(before.schema, after.schema)
        yield f"the {older} has schema {least}, which does not have what made it; cases are compared"
    for result, name in ((before, "baseline"), (after, "later run")):
        if result.ending is not Ending.COMPLETE:
            yield f"the {name} ended early ({result.ending.value}): {result.sentence}"
    if not _has_equal_patience(before, after):
        factors = f"{before.made_by.patience:g} and {after.made_by.patience:g}"
        yield f"times are not compared: the waits of the runs were multiplied by {factors}"


def _count(found: Collection[str]) -> str:
    return f"{len(found)} case" + ("" if len(found) == 1 else "s")
