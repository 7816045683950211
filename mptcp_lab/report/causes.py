"""Group undecided checks by cause, so that a report names each cause once with all of its checks."""

from __future__ import annotations

from dataclasses import dataclass

from mptcp_lab.results.result import Result
from mptcp_lab.results.verdict import Outcome, Verdict


@dataclass(frozen=True)
class Cause:
    """Why checks are undecided, at which place, the command that repairs it, and the affected cases."""

    reason: str
    where: str
    next_step: str
    cases: tuple[str, ...]

    @property
    def count(self) -> str:
        """Return the number of undecided checks with its noun, such as `2 checks`."""
        return f"{len(self.cases)} check" + ("" if len(self.cases) == 1 else "s")

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        step = f"; next: {self.next_step}" if self.next_step else ""
        return f"{place}{self.reason} ({self.count}){step}"


def find_causes(result: Result) -> list[Cause]:
    """Return the causes of undecided checks, the one with the most checks first.

    Many checks may meet one defect of the suite: they share a cause even if its line differs. Checks that
    were not started have no cause here, because the run's ending explains them.
    """
    found: dict[tuple[str, str, str], list[str]] = {}
    for check in result.checks:
        if check.verdict is Verdict.INCONCLUSIVE and check.attempts:
            is_defect = check.attempts[-1].outcome is Outcome.DEFECT  # its place is a line of the check
            place = "" if is_defect else check.where
            found.setdefault((check.reason, place, check.next_step), []).append(check.case)
    every = [Cause(*key, tuple(cases)) for key, cases in found.items()]
    return sorted(every, key=lambda cause: -len(cause.cases))
