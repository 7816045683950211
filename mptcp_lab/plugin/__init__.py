"""Run conformance checks and report their verdicts: the pytest plugin of the suite.

A suite loads the plugin with ``pytest_plugins = ["mptcp_lab.plugin"]`` in its conftest. The plugin opens no
connection to hosts. The suite's fixtures do that; they raise `LabBroken` or `LabBusy` if the lab cannot be
used. The plugin provides:

- `claim`, the marker of a check; `mark_fast`, that of the case that ``--fast`` prefers
- `Unsupported` and `Inconclusive`, which a check may raise
- the fixture ``evidence`` (`EvidenceBox`) for figures and files that prove the verdict
- `lab_of`, which returns the inventory's lab; `describe` and `describe_run`, which keep facts about a host
  and about the run for the report
- `fixtures_require`, which declares the requirements of fixtures on the inventory
- `explain_failures`, which registers a function that finds out whether the lab caused a failure
- `diagnose_failures`, which registers a function that finds out what is wrong with the lab after a failure

PYTEST_DONT_REWRITE: the plugin has no assertions, and a conftest may import it before pytest does.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest

from mptcp_lab.errors import Inconclusive, LabBroken, LabBusy, LabError, Unsupported
from mptcp_lab.evidence import EvidenceBox, disk_full_error
from mptcp_lab.inventory import InventoryError, Lab
from mptcp_lab.inventory.requirement import Requirement
from mptcp_lab.plugin import cases, options, views
from mptcp_lab.plugin.attempt import (
    BOX,
    RAISED,
    Diagnose,
    Explain,
    Seen,
    diagnose_safely,
    end_session,
    mark_shared,
    run_once,
)
from mptcp_lab.plugin.cases import case_of, claim, mark_fast
from mptcp_lab.plugin.live import Live
from mptcp_lab.plugin.origin import describe_origin
from mptcp_lab.plugin.run import Case, Run
from mptcp_lab.report.compare import comparison_lines, exit_line
from mptcp_lab.report.ktap import kselftest_status
from mptcp_lab.report.terminal import summary
from mptcp_lab.results.baseline import compare, exit_code
from mptcp_lab.results.result import Check, Result, ResultError
from mptcp_lab.results.verdict import Ending, ExitCode, Outcome, Verdict
from mptcp_lab.text import make_printable

__all__ = [
    "EvidenceBox",
    "Inconclusive",
    "LabBroken",
    "LabBusy",
    "LabError",
    "Unsupported",
    "case_of",
    "claim",
    "describe",
    "describe_run",
    "diagnose_failures",
    "explain_failures",
    "fixtures_require",
    "lab_of",
    "mark_fast",
]

# An assertion that fails in mptcp_lab.suite then shows both of its sides, as one in a check does.
if "mptcp_lab.suite" not in sys.modules:  # else it is too late, as in the unit tests of the suite
    pytest.register_assert_rewrite("mptcp_lab.suite")

RUN = pytest.StashKey[Run]()
LIVE = pytest.StashKey[Live]()
RESULT = pytest.StashKey[Result]()
BASELINE = pytest.StashKey[Result | None]()
EXPLAIN = pytest.StashKey[Explain]()
DIAGNOSE = pytest.StashKey[Diagnose]()

# The words that pytest prints with the counts in its last line.
CATEGORIES = {
    Verdict.PASS: "passed",
    Verdict.FAIL: "failed",
    Verdict.UNSUPPORTED: "skipped",
    Verdict.NON_STRICT: "xfailed",  # pytest's word for a failure that does not count
    Verdict.FLAKY: "flaky",
    Verdict.INCONCLUSIVE: "inconclusive",
}
ASKS_PYTEST = ("help", "version", "markers", "showfixtures", "show_fixtures_per_test")


def lab_of(config: pytest.Config) -> Lab:
    """Return the lab that ``--hosts`` names, as its inventory describes it."""
    return config.stash[RUN].lab


def describe(config: pytest.Config, host: str, **facts: Any) -> None:
    """Store facts about a host (``kernel="6.18"``, ``versions={...}``) in the result and its reports."""
    config.stash[RUN].facts.setdefault(host, {}).update(facts)


def describe_run(config: pytest.Config, lab: Lab, **facts: Any) -> None:
    """Store the lab as its hosts have it, and fields of `MadeBy` that only the open session has."""
    run = config.stash[RUN]
    run.lab_in_use, run.made_by = lab, replace(run.made_by, **facts)


def explain_failures(config: pytest.Config, explain: Explain) -> None:
    """Register a function that is called after a check fails; an error that it returns explains the failure.

    The outcome then follows from that error: normally the check is inconclusive.
    """
    config.stash[EXPLAIN] = explain


def diagnose_failures(config: pytest.Config, diagnose: Diagnose) -> None:
    """Register a function that is called after a claim did not hold; the failure refers to its cause.

    The verdict stays. The result has each cause once, with all checks that it explains.
    """
    config.stash[DIAGNOSE] = diagnose


def fixtures_require(config: pytest.Config, fixtures: Mapping[str, Requirement]) -> None:
    """Declare the requirement of each fixture: the inventory must meet it for checks that use the fixture."""
    config.stash[cases.FIXTURES] = fixtures


@pytest.fixture
def evidence(request: pytest.FixtureRequest) -> EvidenceBox:
    """Return the box for figures and files that prove the verdict of this check."""
    item: pytest.Item = request.node
    if BOX not in item.stash:
        pytest.fail("the fixture `evidence` is for checks of a claim; add @claim(...)", pytrace=False)
    return item.stash[BOX]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the suite's command-line options."""
    options.add(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Read the inventory and the options first; print one sentence and end if they cannot be used."""
    if any(getattr(config.option, name, None) for name in ASKS_PYTEST):
        return None
    if getattr(config.option, "numprocesses", None):  # the option exists if pytest-xdist is installed
        sentence = "one lab carries one check at a time; leave --numprocesses (-n) out"
        return _refuse(config, sentence, ExitCode.NOTHING_RAN)
    try:
        lab = options.hosts(config)
    except InventoryError as error:
        sentence = f"{error}; then type: pytest conformance/ --hosts=inventory"
        return _refuse(config, sentence, ExitCode.LAB_BROKEN)
    if sentence := options.find_testinfra_option(config) or options.unknown_claim(config):
        return _refuse(config, sentence, ExitCode.NOTHING_RAN)
    try:
        config.stash[BASELINE] = options.baseline(config)
    except ResultError as error:
        return _refuse(config, f"--baseline: {error}", ExitCode.NOTHING_RAN)
    for view in filter(None, (config.option.ktap, config.option.kcidb)):
        view.unlink(missing_ok=True)  # a run that ends early must not leave an old one
    config.stash[RUN] = Run(
        lab=lab,
        rules=options.rules(config),
        folder=options.results_folder(config, lab),
        deadline=config.option.deadline,
        options=options.recorded_options(config),
        limits=dict(config.option.limit),
        made_by=describe_origin(lab, config.option.column),
    )
    return None


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and disable pytest's short summary, which the suite's summary replaces."""
    config.addinivalue_line(
        "markers", "claim(name, case, timing, requires): the claim of the catalogue that this checks"
    )
    config.addinivalue_line("markers", f"{cases.FAST}: of the cases of a claim, the one that --fast prefers")
    if RUN in config.stash:
        config.option.reportchars = ""
        # At the end of a session, Hypothesis's plugin imports all of Hypothesis, which no check uses.
        if "hypothesis" not in sys.modules and (
            unused := config.pluginmanager.get_plugin("hypothesispytest")
        ):
            config.pluginmanager.unregister(unused)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not import files whose checks ``--claim`` and ``--family`` leave out."""
    return cases.is_left_out(collection_path, config) or None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Refuse checks of unknown claims, and checks that use testinfra's ``host``."""
    cases.refuse(metafunc)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Assign cases to checks, deselect those that were not requested, and sort them by family."""
    try:
        cases.assign(items)
    except ValueError as error:
        pytest.exit(str(error), returncode=ExitCode.NOTHING_RAN)
    if config.option.limit and (sentence := options.unknown_figure(config, items)):
        pytest.exit(sentence, returncode=ExitCode.NOTHING_RAN)
    run = config.stash.get(RUN, None)
    cases.select(config, items, run.lab if run else None)
    cases.order(items)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Return a line with the lab's name, its number of hosts and its source."""
    if (run := config.stash.get(RUN, None)) is None:
        return []
    return [f"lab: {run.lab.name} ({len(run.lab.hosts)} hosts) from {run.lab.source}"]


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> list[str]:
    """Return the list of checks for ``--list`` and ``--collect-only``."""
    if not (config.option.collectonly or config.option.list_claims):
        return []
    checks = [(case, item) for item in items if (case := case_of(item))]
    if config.option.collectonly:
        return [
            f"{case.name}: {case.claim.text}" + (f" ({reason})" if (reason := _why_not(item)) else "")
            for case, item in checks
        ]
    lines = []
    for case, item in checks:
        lines += [
            f"{case.name}  ({case.claim.level.value}; {case.claim.source})",
            f"    claim    {case.claim.text}",
            f"    purpose  {cases.purpose(item)}",
        ]
        given = cases.parameters(item)
        if needed := [requirement.describe(given) for requirement in cases.requirements(item)]:
            lines.append(f"    needs    {'; '.join(needed)}")
        if reason := _why_not(item):
            lines.append(f"    {reason}")
    checked = {case.claim.id for case, _ in checks}
    missing = [claim.id for claim in cases.asked_for(config) if claim.id not in checked]
    return [*lines, "", f"in the catalogue without a check here: {', '.join(missing) or 'none'}"]


def _why_not(item: pytest.Item) -> str:
    """Return the reason why a check cannot run on this inventory; empty if it can."""
    reason = cases.unmet_requirement(item, lab_of(item.config))
    return f"unsupported here: {make_printable(reason.what)}" if reason else ""


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
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a check, retry it once if it is a timing check that failed, and report one verdict."""
    case = case_of(item)
    if case is None:
        return None
    run, live = item.config.stash[RUN], item.config.stash[LIVE]
    if not run.may_start():
        if left_out := run.record_not_started(case):
            live.ends(left_out)
            item.ihook.pytest_runtest_logreport(report=_report(item, left_out, None))
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
    if nextitem is None and (problem := end_session(item)):
        run.stop(Ending.LAB_BROKEN, f"the session cannot be ended: {problem}")
    coming = case_of(nextitem) if nextitem else None
    if coming and coming.claim.family != case.claim.family:
        try:
            views.write(
                run.result(_selected_cases(item.session), unfinished=True),
                run.folder,
                item.config.option.ktap,
                item.config.option.kcidb,
            )
        except OSError as full:
            broken = disk_full_error(run.folder, full)
            run.stop(Ending.LAB_BROKEN, str(broken), broken.next_step)
        else:
            live.report_so_far(_shorten_path(item.config, run.folder / "report.html"))
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


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """Count a check under its verdict's word, without a progress letter: its line is printed already."""
    check = getattr(report, "check", None)
    return (CATEGORIES[check.verdict], "", "") if isinstance(check, Check) else None


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write the result and its views, and set the suite's exit code."""
    run = session.config.stash.get(RUN, None)
    if run is None or LIVE not in session.config.stash:
        session.exitstatus = _status(session.config, _exit_without_checks(exitstatus))
        return
    if exitstatus == pytest.ExitCode.INTERRUPTED:
        run.stop(Ending.INTERRUPTED, "the run was interrupted")
    run.other_failures = session.testsfailed > sum(c.verdict is Verdict.FAIL for c in run.checks)
    try:
        option = session.config.option
        views.write(run.result(_selected_cases(session)), run.folder, option.ktap, option.kcidb)
    except OSError as full:
        broken = disk_full_error(run.folder, full)
        run.stop(Ending.LAB_BROKEN, str(broken), broken.next_step)
        run.ending = Ending.LAB_BROKEN  # replaces an earlier ending: this is why no result is written
    session.config.stash[RESULT] = run.result(_selected_cases(session))
    session.exitstatus = _status(session.config, _exit_code(session.config))
    if session.config.option.tbstyle == "auto" and not run.other_failures:
        session.config.option.tbstyle = "no"  # the summary explains failures; --tb prints tracebacks


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the checks that did not pass, the counts and the report's path, above pytest's last line."""
    config = terminalreporter.config
    if RESULT not in config.stash:
        return
    report = config.stash[RUN].folder / "report.html"
    terminalreporter.line("")
    for line in summary(config.stash[RESULT], _shorten_path(config, report) if report.exists() else ""):
        config.stash[LIVE].line(line)
    if baseline := config.stash[BASELINE]:
        terminalreporter.line("")
        lines = comparison_lines(compare(baseline, config.stash[RESULT]), with_figures=False)
        for line in (*lines, exit_line(_exit_code(config))):
            config.stash[LIVE].line(line)


def _selected_cases(session: pytest.Session) -> list[Case]:
    return [case for item in session.items if (case := case_of(item))]


def _shorten_path(config: pytest.Config, path: Path) -> str:
    """Return a path relative to the folder in which the command was run, or absolute if it is outside."""
    here = config.invocation_params.dir
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _refuse(config: pytest.Config, sentence: str, code: ExitCode) -> int:
    print(f"ERROR: {make_printable(sentence)}", file=sys.stderr)
    return _status(config, code)


def _exit_code(config: pytest.Config) -> ExitCode:
    """Return the exit code of the run that has ended; with a baseline, it depends on what got worse."""
    run = config.stash[RUN]
    if (baseline := config.stash[BASELINE]) is None:
        return run.exit_code()
    comparison = compare(baseline, config.stash[RESULT])
    return exit_code(comparison, run.exit_code(), has_other_failures=run.other_failures)


def _exit_without_checks(status: int) -> int:
    """Translate pytest's exit codes that have another meaning in the suite."""
    mine: dict[int, ExitCode] = {
        pytest.ExitCode.NO_TESTS_COLLECTED: ExitCode.NOTHING_RAN,
        pytest.ExitCode.INTERNAL_ERROR: ExitCode.LAB_BROKEN,
    }
    return int(mine.get(status, status))


def _status(config: pytest.Config, code: int) -> int:
    """Return the exit status for an exit code of the suite: with ``--ktap`` that of a kselftest."""
    return kselftest_status(code, config.stash.get(RESULT, None)) if config.option.ktap else code


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
