"""Run checks, each with one verdict, and recognise what is no breach of a claim."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import Any, Literal

import pytest

from mptcp_lab.errors import Inconclusive, LabBroken, LabBusy, LabError, Unsupported
from mptcp_lab.evidence import EvidenceBox, disk_full_error
from mptcp_lab.plugin import cases, options, views
from mptcp_lab.plugin.attempt import BOX, RAISED, Seen, diagnose_safely, end_session, mark_shared, run_once
from mptcp_lab.plugin.cases import case_of
from mptcp_lab.plugin.live import Live
from mptcp_lab.plugin.state import DIAGNOSE, EXPLAIN, LIVE, RUN, lab_of, selected_cases, shorten_path
from mptcp_lab.plugin.together import is_part, pass_on, run_part, run_with_further_labs, show_others
from mptcp_lab.results.result import Check
from mptcp_lab.results.verdict import Ending, ExitCode, Outcome, Verdict
from mptcp_lab.text import make_printable


@pytest.fixture
def evidence(request: pytest.FixtureRequest) -> EvidenceBox:
    """Return the box for figures and files that prove the verdict of this check."""
    item: pytest.Item = request.node
    if BOX not in item.stash:
        pytest.fail("the fixture `evidence` is for checks of a claim; add @claim(...)", pytrace=False)
    return item.stash[BOX]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Raise `Unsupported` if the inventory does not meet a check's requirements, as ``--list`` prints."""
    if case_of(item) and (reason := cases.unmet_requirement(item, lab_of(item.config))):
        raise reason


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run no check under ``--list``; else create the results folder for the first check."""
    config = session.config
    if config.option.list_claims:
        return True
    if config.option.collectonly or session.testsfailed or not any(map(case_of, session.items)):
        return None
    try:
        options.make_folder(config.stash[RUN].folder)
    except OSError as error:
        sentence = f"results cannot be written: {error}; make room or choose --results DIR"
        pytest.exit(make_printable(sentence), ExitCode.NOTHING_RAN)
    config.stash[LIVE] = Live(config)
    if is_part(config):
        run_part(session)
        return True
    if config.option.also_hosts:
        run_with_further_labs(session, _tell)
        return True
    return None


def _tell(item: pytest.Item, check: Check) -> None:
    """Report a check that was not run here."""
    item.config.stash[LIVE].ends(check)
    item.ihook.pytest_runtest_logreport(report=_report(item, check, None))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a check, retry it once if it is a timing check that failed, and report one verdict."""
    case = case_of(item)
    if case is None:
        return None
    run, live = item.config.stash[RUN], item.config.stash[LIVE]
    if not run.may_start():
        if left_out := run.record_not_started(case):
            _tell(item, left_out)
        return True
    live.begins(case)
    explain = item.config.stash.get(EXPLAIN, None)
    following: pytest.Item | pytest.Session = nextitem or item.session
    tries = [run_once(item, following, run.box(case, 0), explain)]
    if case.timing and tries[0].attempt.outcome in (Outcome.BREACHED, Outcome.OVER_LIMIT):
        tries.append(run_once(item, following, run.box(case, 1), explain))
    error = tries[-1].error
    diagnose = partial(diagnose_safely, item, item.config.stash.get(DIAGNOSE, None))
    check = run.record(case, [seen.attempt for seen in tries], getattr(error, "next_step", ""), diagnose)
    if isinstance(error, LabBroken):
        run.stop(Ending.LAB_BROKEN, str(error), error.next_step)
    elif isinstance(error, LabBusy):
        run.stop(Ending.LAB_BUSY, str(error), error.next_step)
    live.ends(check)
    item.ihook.pytest_runtest_logreport(report=_report(item, check, tries[-1]))
    if is_part(item.config):
        pass_on(item.config, check)
    else:
        show_others(item.session, _tell)
    if nextitem is None and (problem := end_session(item)):
        run.stop(Ending.LAB_BROKEN, f"the session cannot be ended: {problem}")
    coming = case_of(nextitem) if nextitem else None
    if coming and coming.claim.family != case.claim.family and not is_part(item.config):
        try:
            views.write(
                run.result(selected_cases(item.session), unfinished=True),
                run.folder,
                item.config.option.ktap,
                item.config.option.kcidb,
            )
        except OSError as full:
            broken = disk_full_error(run.folder, full)
            run.stop(Ending.LAB_BROKEN, str(broken), broken.next_step)
        else:
            live.report_so_far(shorten_path(item.config, run.folder / "report.html"))
    return True


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Mark exceptions of shared fixtures: the failure of a shared fixture is not a breach of any claim.

    Raises:
        LabBroken: a session fixture that every check needs has failed; the run ends.
    """
    try:
        return (yield)
    except (Unsupported, Inconclusive, LabBroken, LabBusy):
        raise
    except Exception as error:
        if fixturedef.scope == "function" or isinstance(error, pytest.skip.Exception):
            raise
        mark_shared(error, fixturedef.argname)
        checks = [item for item in request.session.items if case_of(item)]
        needed = all(fixturedef.argname in getattr(item, "fixturenames", ()) for item in checks)
        if fixturedef.scope != "session" or not checks or not needed:
            raise
        why = error.what if isinstance(error, LabError) else f"{type(error).__name__}: {error}"
        raise LabBroken(
            f"the session cannot be set up ({fixturedef.argname}): {why}",
            getattr(error, "where", ""),
            getattr(error, "next_step", "")
            or "see the traceback in the first check's evidence, then run again",
        ) from error


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Store the exception object; pytest's reports have only its text."""
    if call.excinfo is not None and RAISED in item.stash:
        item.stash[RAISED].append(call.excinfo.value)
    return (yield)


def _report(item: pytest.Item, check: Check, seen: Seen | None) -> pytest.TestReport:
    """Return the one pytest report of a check; ``--tb=long`` prints its traceback."""
    path, line, _ = item.location
    outcome: Literal["passed", "failed", "skipped"] = "passed"
    longrepr: Any = None
    if check.verdict is Verdict.FAIL:
        outcome, longrepr = "failed", seen.traceback if seen else check.reason
    elif check.verdict is Verdict.UNSUPPORTED:
        outcome, longrepr = "skipped", (path, line or 0, check.reason)
    return pytest.TestReport(
        nodeid=item.nodeid,
        location=(path, line, check.case),
        keywords={},
        outcome=outcome,
        longrepr=longrepr,
        when="call",
        duration=check.duration,
        check=check,
    )
