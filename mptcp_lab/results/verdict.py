"""Verdicts: pure functions that derive a verdict from outcomes, and a run's exit code from its verdicts."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from mptcp_lab.catalogue.level import Level


class Outcome(StrEnum):
    """The outcome of one attempt at a check, before the claim's level and the run's options are applied.

    A defect is a fault of the suite: an unexpected exception, which proves nothing about the claim.
    """

    HELD = "held"
    BREACHED = "breached"
    OVER_LIMIT = "over-limit"
    UNSUPPORTED = "unsupported"
    INCONCLUSIVE = "inconclusive"
    DEFECT = "defect"


class Verdict(StrEnum):
    """The meaning of a check's outcomes for its claim."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    NON_STRICT = "non-strict"
    FAIL = "fail"
    UNSUPPORTED = "unsupported"
    INCONCLUSIVE = "inconclusive"
    FLAKY = "flaky"


class ExitCode(IntEnum):
    """The exit status of a run."""

    ALL_WELL = 0
    CLAIM_FAILED = 1
    NOTHING_RAN = 2
    NOT_STRICT = 3
    LAB_BROKEN = 4
    LAB_BUSY = 5


class Ending(StrEnum):
    """The reason why a run ended; it is ``unfinished`` during the run and after the run was killed."""

    COMPLETE = "complete"
    DEADLINE = "deadline"
    INTERRUPTED = "interrupted"
    LAB_BROKEN = "lab broken"
    LAB_BUSY = "lab busy"
    UNFINISHED = "unfinished"


@dataclass(frozen=True)
class Rules:
    """The options that make verdicts stricter: ``--strict`` and ``--expect-all``."""

    strict: bool = False
    expect_all: bool = False


def decide(outcomes: Collection[Outcome], level: Level, rules: Rules) -> Verdict:
    """Return the verdict of a check from the outcomes of its attempts, oldest first.

    A claim that held only on the retry is flaky. An INFO claim fails only over a configured limit.
    """
    *earlier, last = outcomes
    match last:
        case Outcome.HELD:
            return Verdict.FLAKY if earlier else Verdict.PASS
        case Outcome.UNSUPPORTED:
            return Verdict.FAIL if rules.expect_all else Verdict.UNSUPPORTED
        case Outcome.INCONCLUSIVE | Outcome.DEFECT:
            return Verdict.INCONCLUSIVE
        case Outcome.OVER_LIMIT if level is Level.INFO:
            return Verdict.FAIL
    fails = level is Level.MUST or (level is Level.SHOULD and rules.strict)
    return Verdict.FAIL if fails else Verdict.NON_STRICT


RAN = frozenset({Verdict.PASS, Verdict.NON_STRICT, Verdict.FAIL, Verdict.FLAKY})


def exit_code(verdicts: Collection[Verdict], ending: Ending, rules: Rules) -> ExitCode:
    """Return the exit code of a run.

    A busy or broken lab takes precedence over a failed claim, because the lab may have caused the failure.
    An interrupted or unfinished run gives NOTHING_RAN; with ``--expect-all``, a run that reached its
    deadline gives CLAIM_FAILED.
    """
    if ending is Ending.LAB_BUSY:
        return ExitCode.LAB_BUSY
    if ending is Ending.LAB_BROKEN or Verdict.INCONCLUSIVE in verdicts:
        return ExitCode.LAB_BROKEN
    if Verdict.FAIL in verdicts or (ending is Ending.DEADLINE and rules.expect_all):
        return ExitCode.CLAIM_FAILED
    if ending in (Ending.INTERRUPTED, Ending.UNFINISHED) or not RAN.intersection(verdicts):
        return ExitCode.NOTHING_RAN
    if Verdict.NON_STRICT in verdicts or Verdict.FLAKY in verdicts:
        return ExitCode.NOT_STRICT
    return ExitCode.ALL_WELL
