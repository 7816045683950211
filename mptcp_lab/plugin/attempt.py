"""Running a check once, and reading what it saw."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from _pytest.runner import runtestprotocol

from mptcp_lab.errors import Disturbed, Inconclusive, LabBroken, LabBusy, LabError, Unsupported
from mptcp_lab.plugin.evidence import EvidenceBox
from mptcp_lab.result import Attempt
from mptcp_lab.verdict import Outcome

BOX = pytest.StashKey[EvidenceBox]()
RAISED = pytest.StashKey[list[BaseException]]()

REASON_LINES = 12
ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True)
class Seen:
    """An attempt, the exception that decided it, and pytest's account of it."""

    attempt: Attempt
    error: BaseException | None
    traceback: str


def run_once(item: pytest.Item, nextitem: pytest.Item | None, box: EvidenceBox) -> Seen:
    """Run a check through set-up, call and teardown, and say what it saw.

    A failure in set-up or teardown counts like one in the check: a trace left behind is a breach.
    """
    item.stash[BOX] = box
    item.stash[RAISED] = []
    reports = runtestprotocol(item, nextitem=nextitem, log=False)
    raised: list[BaseException] = item.stash[RAISED]
    error = _telling(raised)
    outcome = classify(error, box)
    report = next((r for r in reports if r.outcome != "passed"), reports[-1])
    if outcome in (Outcome.BREACHED, Outcome.INCONCLUSIVE) and report.longrepr:
        captured = "".join(f"\n--- {title}\n{text}" for title, text in report.sections)
        box.text("failure", _uncoloured(f"{report.longreprtext}\n{captured}"))
    attempt = Attempt(
        outcome=outcome,
        reason=_reason(outcome, error, report, box),
        where=_where(item, report) if outcome is Outcome.BREACHED else getattr(error, "where", ""),
        duration=round(sum(r.duration for r in reports), 4),
        figures=box.figures,
        evidence=box.files,
    )
    return Seen(attempt, error, report.longreprtext or attempt.reason)


def classify(error: BaseException | None, box: EvidenceBox) -> Outcome:
    """Return what an exception, or none, says about the claim. What is not foreseen is a breach."""
    match error:
        case None:
            return Outcome.OVER_LIMIT if any(f.exceeded for f in box.figures) else Outcome.HELD
        # A skip is told by its reason too, and fails under --expect-all: it hides nothing.
        case Unsupported() | pytest.skip.Exception():
            return Outcome.UNSUPPORTED
        case LabBroken() | LabBusy() | Inconclusive():
            return Outcome.INCONCLUSIVE
    return Outcome.BREACHED


def _telling(raised: Sequence[BaseException]) -> BaseException | None:
    """Pick the exception that decides: a broken or disturbed lab explains all others; else the first."""
    broken = [error for error in raised if isinstance(error, (LabBroken, LabBusy, Disturbed))]
    return next(iter([*broken, *raised]), None)


def _reason(
    outcome: Outcome, error: BaseException | None, report: pytest.TestReport, box: EvidenceBox
) -> str:
    if outcome is Outcome.OVER_LIMIT:
        over = (f"{figure}, over its limit of {figure.limit:g}" for figure in box.figures if figure.exceeded)
        return "; ".join(over)
    if isinstance(error, LabError):
        return error.what
    if error is None:
        return ""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash else str(error)
    phase = "" if report.when == "call" else f"in {report.when}: "
    told = [line for line in _uncoloured(text).removeprefix("AssertionError: ").splitlines() if line.strip()]
    lines = told or [type(error).__name__]
    return phase + "\n".join(line.rstrip() for line in lines[:REASON_LINES])


def _uncoloured(text: str) -> str:
    """Drop terminal escapes: pytest colours differences, and a host may have sent anything."""
    return ESCAPES.sub("", text)


def _where(item: pytest.Item, report: pytest.TestReport) -> str:
    """Name the file and line, as far inside the check as pytest can tell."""
    entries = getattr(getattr(report.longrepr, "reprtraceback", None), "reprentries", [])
    places = [entry.reprfileloc for entry in entries if getattr(entry, "reprfileloc", None)]
    own = [place for place in places if item.path.name in place.path]
    if own:
        return f"{report.location[0]}:{own[-1].lineno}"
    line = report.location[1]
    return f"{report.location[0]}:{line + 1}" if line is not None else report.location[0]
