"""Run a check once, and determine the outcome."""

from __future__ import annotations

import contextlib
import re
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from traceback import walk_tb
from typing import cast

import pytest
from _pytest.runner import runtestprotocol

import mptcp_lab
from mptcp_lab.errors import (
    Breach,
    Disturbed,
    Inconclusive,
    LabBroken,
    LabBusy,
    LabError,
    Unsupported,
)
from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.probe.streams import ConnectFailed
from mptcp_lab.probe.waiting import NeverHappened
from mptcp_lab.results.causes import Cause
from mptcp_lab.results.result import Attempt
from mptcp_lab.results.verdict import Outcome
from mptcp_lab.text import make_printable

BOX = pytest.StashKey[EvidenceBox]()
RAISED = pytest.StashKey[list[BaseException]]()

REASON_LINES = 12
SHARED = "mptcp_lab_shared_fixture"
#: Outcomes whose place is a line of the check.
FROM_THE_CHECK = (Outcome.BREACHED, Outcome.DEFECT)
PACKAGE = Path(mptcp_lab.__file__).parent
HELPERS = PACKAGE / "suite"
#: Folders of the standard library and of installed packages: an assertion there is not about a claim.
OF_OTHERS = tuple(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib"))

#: Function that returns why a check failed if the lab caused the failure, else None.
Explain = Callable[[pytest.Item], LabError | None]
#: Function that returns what is wrong with the hosts that a failed check needed, or None.
Diagnose = Callable[[pytest.Item], Cause | None]


@dataclass(frozen=True)
class Seen:
    """An attempt, the exception that decided its outcome, and pytest's traceback."""

    attempt: Attempt
    error: BaseException | None
    traceback: str


def run_once(
    item: pytest.Item,
    following: pytest.Item | pytest.Session,
    box: EvidenceBox,
    explain: Explain | None = None,
) -> Seen:
    """Run setup, call and teardown of a check, and determine its outcome.

    A failed assertion in teardown counts like one in the check: a trace on a host is a breach. If the claim
    did not hold, ``explain`` is called, and an error that it returns decides the outcome instead. Fixtures
    that ``following`` (the next check, or the session) needs are kept, so that ``explain`` can read hosts.
    """
    item.stash[BOX] = box
    item.stash[RAISED] = []
    reports = runtestprotocol(item, nextitem=cast(pytest.Item, following), log=False)
    raised: list[BaseException] = item.stash[RAISED]
    error = _deciding_exception(raised)
    outcome = classify(error, box)
    report = next((r for r in reports if r.outcome != "passed"), reports[-1])
    if explain and outcome not in (Outcome.HELD, Outcome.UNSUPPORTED) and not _is_about_the_lab(error):
        with contextlib.suppress(Exception):  # a failure of `explain` must not hide the first one
            error = explain(item) or error
        outcome = classify(error, box)
    try:
        if outcome in (Outcome.BREACHED, Outcome.INCONCLUSIVE, Outcome.DEFECT) and report.longrepr:
            captured = "".join(f"\n--- {title}\n{text}" for title, text in report.sections)
            box.text("failure", make_printable(f"{report.longreprtext}\n{captured}"))
    except LabBroken as full:
        error, outcome = full, Outcome.INCONCLUSIVE
    attempt = Attempt(
        outcome=outcome,
        reason=_reason(outcome, error, report, box),
        where=_where(item, report) if outcome in FROM_THE_CHECK else getattr(error, "where", ""),
        duration=round(sum(r.duration for r in reports), 4),
        figures=box.figures,
        evidence=box.files,
    )
    return Seen(attempt, error, make_printable(report.longreprtext or attempt.reason))


def diagnose_safely(item: pytest.Item, diagnose: Diagnose | None) -> Cause | None:
    """Return what ``diagnose`` finds; None if it fails, which must not hide the check's own failure."""
    with contextlib.suppress(Exception):
        return diagnose(item) if diagnose else None
    return None


def end_session(item: pytest.Item) -> str:
    """Tear down the session's fixtures after the last check; return the error text, empty on success."""
    try:
        item.session._setupstate.teardown_exact(None)
    except Exception as error:  # a fixture may raise any exception
        return str(error) or type(error).__name__
    return ""


def classify(error: BaseException | None, box: EvidenceBox) -> Outcome:
    """Return the outcome that follows from the exception of a check, or from None.

    Only an assertion of a check or its helpers, or a `Breach`, is a breach. The failure of a host or of a
    shared fixture is inconclusive. Any other exception is a defect of the suite.
    """
    match error:
        case None:
            return Outcome.OVER_LIMIT if any(f.is_exceeded for f in box.figures) else Outcome.HELD
        # A skip is reported with its reason and fails under --expect-all, so that it hides nothing.
        case Unsupported() | pytest.skip.Exception():
            return Outcome.UNSUPPORTED
        case ConnectFailed() if error.is_local:
            return Outcome.INCONCLUSIVE
        case AssertionError() | Breach() | pytest.fail.Exception():
            if shared_fixture(error):
                return Outcome.INCONCLUSIVE
            return Outcome.BREACHED if _is_claimed(error) else Outcome.DEFECT
        case LabError():
            return Outcome.INCONCLUSIVE
    return Outcome.DEFECT


def mark_shared(error: BaseException, fixture: str) -> None:
    """Store the name of the shared fixture on its exception, which pytest raises again for each check."""
    with contextlib.suppress(AttributeError):  # the exception's type does not allow new attributes
        setattr(error, SHARED, fixture)


def shared_fixture(error: BaseException | None) -> str:
    """Return the name of the shared fixture that raised an exception, or an empty string."""
    return str(getattr(error, SHARED, ""))


def _is_claimed(error: BaseException) -> bool:
    """Return whether an assertion is one of a check, its fixtures or its helpers, not of other code."""
    if not isinstance(error, AssertionError) or isinstance(error, NeverHappened):
        return True
    frames = [frame.f_code.co_filename for frame, _ in walk_tb(error.__traceback__)]
    inmost = Path(frames[-1]) if frames else Path()
    if inmost.is_relative_to(PACKAGE):
        return inmost.is_relative_to(HELPERS)
    return not any(inmost.is_relative_to(folder) for folder in OF_OTHERS)


def _is_about_the_lab(error: BaseException | None) -> bool:
    return isinstance(error, LabBroken | LabBusy | Inconclusive)


def _deciding_exception(raised: Sequence[BaseException]) -> BaseException | None:
    """Return the exception that decides: that of a broken, busy or disturbed lab, else the first."""
    broken = [error for error in raised if isinstance(error, (LabBroken, LabBusy, Disturbed))]
    return next(iter([*broken, *raised]), None)


def _reason(
    outcome: Outcome, error: BaseException | None, report: pytest.TestReport, box: EvidenceBox
) -> str:
    if outcome is Outcome.OVER_LIMIT:
        over = (
            f"{figure}, over its limit of {figure.limit:g}" for figure in box.figures if figure.is_exceeded
        )
        return "; ".join(over)
    if isinstance(error, LabError):
        shared = shared_fixture(error)
        return f"in the setup of {shared}: {error.what}" if shared else error.what
    if error is None:
        return ""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash else str(error)
    phase = "" if report.when == "call" else f"in {report.when}: "
    if outcome is Outcome.DEFECT:
        phase = f"a defect of the suite, not of the lab: {phase}"
    if isinstance(error, AssertionError):  # what did not hold is of interest, not the exception's name
        text = re.sub(rf"^([\w.]*\.)?{type(error).__name__}: ", "", text)
    found = [line for line in make_printable(text).splitlines() if line.strip()]
    lines = found or [type(error).__name__]
    return phase + "\n".join(line.rstrip() for line in lines[:REASON_LINES])


def _where(item: pytest.Item, report: pytest.TestReport) -> str:
    """Return file and line, of the innermost frame in the check's file if pytest's report has one."""
    entries = getattr(getattr(report.longrepr, "reprtraceback", None), "reprentries", [])
    places = [entry.reprfileloc for entry in entries if getattr(entry, "reprfileloc", None)]
    own = [place for place in places if item.path.name in place.path]
    if own:
        return f"{report.location[0]}:{own[-1].lineno}"
    line = report.location[1]
    return f"{report.location[0]}:{line + 1}" if line is not None else report.location[0]
