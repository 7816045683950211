"""Which cause left which checks undecided: each is named once, with what it took along."""

from __future__ import annotations

from dataclasses import dataclass

from mptcp_lab.result import Check, Result
from mptcp_lab.verdict import Outcome, Verdict


@dataclass(frozen=True)
class Cause:
    """What left checks undecided, where, the command that repairs it, and the cases it took along."""

    reason: str
    where: str
    next_step: str
    cases: tuple[str, ...]

    @property
    def count(self) -> str:
        """How many checks it took along, in words."""
        return f"{len(self.cases)} check" + ("" if len(self.cases) == 1 else "s")

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        step = f"; next: {self.next_step}" if self.next_step else ""
        return f"{place}{self.reason} ({self.count}){step}"


def find_causes(result: Result) -> list[Cause]:
    """Return what left checks undecided, the cause of the most first.

    A defect of the suite is each check's own; checks that were not started are the run's ending to explain.
    """
    found: dict[tuple[str, str, str], list[str]] = {}
    for check in result.checks:
        if _is_undecided(check):
            found.setdefault((check.reason, check.where, check.next_step), []).append(check.case)
    every = [Cause(*key, tuple(cases)) for key, cases in found.items()]
    return sorted(every, key=lambda cause: -len(cause.cases))


def _is_undecided(check: Check) -> bool:
    if check.verdict is not Verdict.INCONCLUSIVE or not check.attempts:
        return False
    return check.attempts[-1].outcome is not Outcome.DEFECT
