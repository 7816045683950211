"""One run of the suite: which checks started, what they saw, and what is written about it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mptcp_lab import __version__
from mptcp_lab.catalogue import Claim
from mptcp_lab.evidence import EvidenceBox, slug
from mptcp_lab.inventory.model import Lab
from mptcp_lab.results.lab_document import lab_document
from mptcp_lab.results.result import Attempt, Check, NotRun, Result
from mptcp_lab.results.verdict import Ending, ExitCode, Outcome, Rules, Verdict, decide, exit_code

STILL_GOING = "the run was still going on when this was written"


@dataclass(frozen=True)
class Case:
    """A check as it was collected: its claim, the case of it, and whether it is sensitive to timing."""

    claim: Claim
    name: str
    timing: bool = False


@dataclass
class Run:
    """The run in progress. ``folder`` appears when the first check starts."""

    lab: Lab
    rules: Rules
    folder: Path
    deadline: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)
    ending: Ending = Ending.COMPLETE
    sentence: str = ""
    next_step: str = ""
    checks: list[Check] = field(default_factory=list)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    other_failures: bool = False
    _started: datetime = field(default_factory=lambda: datetime.now(UTC))
    _clock: float = field(default_factory=time.monotonic)

    def stop(self, ending: Ending, sentence: str, next_step: str = "") -> None:
        """Start nothing any more; the first reason to stop is the one that is told."""
        if self.ending is Ending.COMPLETE:
            self.ending, self.sentence, self.next_step = ending, sentence, next_step

    def may_start(self) -> bool:
        """Tell whether another check may start, looking at the deadline too."""
        spent = time.monotonic() - self._clock
        if self.deadline is not None and spent >= self.deadline:
            self.stop(Ending.DEADLINE, f"the deadline of {self.deadline:g} s was reached")
        return self.ending is Ending.COMPLETE

    def box(self, case: Case, attempt: int) -> EvidenceBox:
        """Return where an attempt (0 for the first) leaves its evidence."""
        folder = self.folder / "evidence" / slug(case.name)
        return EvidenceBox(self.folder, folder / "retry" if attempt else folder, self.limits)

    def record(self, case: Case, attempts: Sequence[Attempt], next_step: str = "") -> Check:
        """Keep a check's verdict and return it."""
        last = attempts[-1]
        verdict = decide([attempt.outcome for attempt in attempts], case.claim.level, self.rules)
        told = attempts[0] if verdict is Verdict.FLAKY else last
        check = _check(case, verdict, told.reason, told.where, next_step, tuple(attempts))
        self.checks.append(check)
        return check

    def record_not_started(self, case: Case) -> Check | None:
        """Keep a check that a broken or busy lab did not let start; None where it is merely left out."""
        if self.ending not in (Ending.LAB_BROKEN, Ending.LAB_BUSY):
            return None
        verdict = decide([Outcome.INCONCLUSIVE], case.claim.level, self.rules)
        check = _check(case, verdict, f"not started: {self.sentence}", "", self.next_step, ())
        self.checks.append(check)
        return check

    def result(self, selected: Sequence[Case], unfinished: bool = False) -> Result:
        """Return the run as it stands, of the cases that were selected; ``unfinished`` while it goes on."""
        ending, sentence = (Ending.UNFINISHED, STILL_GOING) if unfinished else (self.ending, self.sentence)
        done = {check.case for check in self.checks}
        reason = sentence or "the run was stopped"
        left_out = tuple(NotRun(case.name, reason) for case in selected if case.name not in done)
        return Result(
            run_id=self.folder.name,
            started=timestamp(self._started),
            finished=timestamp(datetime.now(UTC)),
            ending=ending,
            sentence=sentence,
            exit_code=int(self.exit_code(ending)),
            checks=tuple(self.checks),
            not_run=left_out,
            lab=lab_document(self.lab, self.facts),
            options={**self.options, **asdict(self.rules)},
            version=__version__,
        )

    def exit_code(self, ending: Ending | None = None) -> ExitCode:
        """Return the exit code as things stand; a failure outside the claims counts as a failure."""
        verdicts = [check.verdict for check in self.checks]
        if self.other_failures:
            verdicts.append(Verdict.FAIL)
        return exit_code(verdicts, ending or self.ending, self.rules)


def timestamp(moment: datetime) -> str:
    """Return a UTC time as ISO 8601 with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _check(
    case: Case,
    verdict: Verdict,
    reason: str,
    where: str,
    next_step: str,
    attempts: tuple[Attempt, ...],
) -> Check:
    claim = case.claim
    return Check(
        id=claim.id,
        case=case.name,
        family=claim.family,
        claim=claim.text,
        level=claim.level,
        source=claim.source,
        verdict=verdict,
        reason=reason,
        where=where,
        next_step=next_step,
        attempts=attempts,
    )
