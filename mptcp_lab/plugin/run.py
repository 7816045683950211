"""Record one run of the suite: its checks, their attempts and verdicts, and how the run ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mptcp_lab import __version__
from mptcp_lab.catalogue import Claim, find_breach
from mptcp_lab.evidence import EvidenceBox, slug
from mptcp_lab.inventory.model import Lab
from mptcp_lab.results.causes import Cause
from mptcp_lab.results.lab_document import lab_document
from mptcp_lab.results.made_by import MadeBy
from mptcp_lab.results.result import Attempt, Check, NotRun, Result, count_verdicts
from mptcp_lab.results.verdict import Ending, ExitCode, Outcome, Rules, Verdict, decide, exit_code

#: Outcomes of a check whose claim did not hold.
BY_THE_CLAIM = (Outcome.BREACHED, Outcome.OVER_LIMIT)
STILL_GOING = "the run was still going on when this was written"


@dataclass(frozen=True)
class Case:
    """A collected check: its claim, the name of its case, and whether it is a timing check."""

    claim: Claim
    name: str
    timing: bool = False


@dataclass
class Run:
    """The run in progress; ``deadline`` is in seconds, and ``folder`` exists once the first check starts.

    ``lab_in_use`` is the lab as the hosts have it, with the method of each proxy instead of `auto`; it is
    None until the hosts were asked.
    """

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
    made_by: MadeBy = field(default_factory=MadeBy)
    lab_in_use: Lab | None = None
    other_failures: bool = False
    _started: datetime = field(default_factory=lambda: datetime.now(UTC))
    _clock: float = field(default_factory=time.monotonic)

    def stop(self, ending: Ending, sentence: str, next_step: str = "") -> None:
        """Start no more checks; the first reason to stop is the one that is reported."""
        if self.ending is Ending.COMPLETE:
            self.ending, self.sentence, self.next_step = ending, sentence, next_step

    def may_start(self) -> bool:
        """Return whether another check may start; stop the run if its deadline has passed."""
        spent = time.monotonic() - self._clock
        if self.deadline is not None and spent >= self.deadline:
            self.stop(Ending.DEADLINE, f"the deadline of {self.deadline:g} s was reached")
        return self.ending is Ending.COMPLETE

    def box(self, case: Case, attempt: int) -> EvidenceBox:
        """Return the box for the evidence of an attempt (0 for the first, 1 for the retry)."""
        folder = self.folder / "evidence" / slug(case.name)
        return EvidenceBox(self.folder, folder / "retry" if attempt else folder, self.limits)

    def record(
        self,
        case: Case,
        attempts: Sequence[Attempt],
        next_step: str = "",
        diagnose: Callable[[], Cause | None] | None = None,
    ) -> Check:
        """Decide a check's verdict from its attempts, store it and return it.

        If the check failed, ``diagnose`` is called to find out what is wrong with the lab.
        """
        last = attempts[-1]
        verdict = decide([attempt.outcome for attempt in attempts], case.claim.level, self.rules)
        reported = attempts[0] if verdict is Verdict.FLAKY else last
        check = _check(case, verdict, reported.reason, reported.where, next_step, tuple(attempts))
        if verdict is Verdict.NON_STRICT and (correction := find_breach(case.claim.id, self._kernels())):
            check = replace(check, known=" ".join((correction.sentence or correction.seen).split()))
        elif diagnose and verdict in (Verdict.FAIL, Verdict.NON_STRICT) and last.outcome in BY_THE_CLAIM:
            check = replace(check, diagnosis=diagnose())
        self.checks.append(check)
        return check

    def record_not_started(self, case: Case) -> Check | None:
        """Store a check that a broken or busy lab prevented; return None after any other ending."""
        if self.ending not in (Ending.LAB_BROKEN, Ending.LAB_BUSY):
            return None
        verdict = decide([Outcome.INCONCLUSIVE], case.claim.level, self.rules)
        check = _check(case, verdict, f"not started: {self.sentence}", "", self.next_step, ())
        self.checks.append(check)
        return check

    def result(self, selected: Sequence[Case], unfinished: bool = False) -> Result:
        """Return the result so far; selected cases without a check are listed as not run.

        ``unfinished`` states that the run still goes on.
        """
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
            lab=lab_document(self.lab_in_use or self.lab, self.facts),
            options={**self.options, **asdict(self.rules)},
            version=__version__,
            made_by=self.made_by,
        )

    def exit_code(self, ending: Ending | None = None) -> ExitCode:
        """Return the exit code so far; a failed test without a claim counts as a failure."""
        verdicts = count_verdicts(self.checks)
        if self.other_failures:
            verdicts.append(Verdict.FAIL)
        return exit_code(verdicts, ending or self.ending, self.rules)

    def _kernels(self) -> set[str]:
        """Return the kernel releases of the hosts that were asked."""
        return {str(facts["kernel"]) for facts in self.facts.values() if "kernel" in facts}


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
