"""Which cause left which checks undecided: each is named once, with what it took along."""

from __future__ import annotations

from dataclasses import dataclass

from mptcp_lab.results.result import Result
from mptcp_lab.results.verdict import Outcome, Verdict


@dataclass(frozen=True)
class Cause:
    """What left checks undecided, where, the command that repairs it, and the cases it took along."""

    reason: str
    where: str
    next_step: str
    cases: tuple[str, ...]

    @property
    def count(self) -> str:
        """Return the number of checks that it left undecided, in words."""
        return f"{len(self.cases)} check" + ("" if len(self.cases) == 1 else "s")

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        step = f"; next: {self.next_step}" if self.next_step else ""
        return f"{place}{self.reason} ({self.count}){step}"


def find_causes(result: Result) -> list[Cause]:
    """Return what left checks undecided, the cause of the most first.

    One defect of the suite may be met by many checks. Those that were not started are explained by the run's
    ending.
    """
    found: dict[tuple[str, str, str], list[str]] = {}
    for check in result.checks:
        if check.verdict is Verdict.INCONCLUSIVE and check.attempts:
            is_defect = check.attempts[-1].outcome is Outcome.DEFECT  # its place is a line of the check
            place = "" if is_defect else check.where
            found.setdefault((check.reason, place, check.next_step), []).append(check.case)
    every = [Cause(*key, tuple(cases)) for key, cases in found.items()]
    return sorted(every, key=lambda cause: -len(cause.cases))
