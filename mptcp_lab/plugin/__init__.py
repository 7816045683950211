"""The pytest plugin of the conformance suite.

A suite loads it with ``pytest_plugins = ["mptcp_lab.plugin"]`` in its conftest. It opens no connection: the
suite's own fixtures do, and raise `LabBroken` or `LabBusy` where the lab cannot be used. What it offers:

- `claim`, the marker of a check; `Unsupported` and `Inconclusive`, which a check raises
- the fixture ``evidence`` (`EvidenceBox`): figures and files that prove the verdict
- `lab_of`, the inventory's lab; `describe`, facts about a host for the report
- `fixtures_require`, what the inventory has to have for a fixture
- `explain_failures`, a function that is asked whether the lab is why a check failed

PYTEST_DONT_REWRITE: it asserts nothing, and a conftest may import it before pytest does.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest

from mptcp_lab.errors import Inconclusive, LabBroken, LabBusy, LabError, Unsupported
from mptcp_lab.evidence import EvidenceBox, disk_full_error
from mptcp_lab.inventory import InventoryError, Lab
from mptcp_lab.inventory.requirement import Requirement
from mptcp_lab.plugin import cases, options, views
from mptcp_lab.plugin.attempt import BOX, RAISED, Explain, Seen, end_session, mark_shared, run_once
from mptcp_lab.plugin.cases import case_of, claim
from mptcp_lab.plugin.live import Live
from mptcp_lab.plugin.run import Case, Run
from mptcp_lab.report.terminal import summary
from mptcp_lab.results.result import Check, Result
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
    "explain_failures",
    "fixtures_require",
    "lab_of",
]

# A check that fails in there shows both sides of the assertion, as one in the check itself does.
if "mptcp_lab.suite" not in sys.modules:  # else too late, as in tests of the suite itself
    pytest.register_assert_rewrite("mptcp_lab.suite")

RUN = pytest.StashKey[Run]()
LIVE = pytest.StashKey[Live]()
RESULT = pytest.StashKey[Result]()
EXPLAIN = pytest.StashKey[Explain]()

# The words of pytest's own last line, which machines count.
CATEGORIES = {
    Verdict.PASS: "passed",
    Verdict.FAIL: "failed",
    Verdict.UNSUPPORTED: "skipped",
    Verdict.NON_STRICT: "xfailed",  # of pytest's words the one for a failure that does not count
    Verdict.FLAKY: "flaky",
    Verdict.INCONCLUSIVE: "inconclusive",
}
ASKS_PYTEST = ("help", "version", "markers", "showfixtures", "show_fixtures_per_test")


def lab_of(config: pytest.Config) -> Lab:
    """Return the lab that ``--hosts`` names, as its inventory describes it."""
    return config.stash[RUN].lab


def describe(config: pytest.Config, host: str, **facts: Any) -> None:
    """Keep facts about a host (``kernel="6.18"``, ``versions={...}``) for the result and its reports."""
    config.stash[RUN].facts.setdefault(host, {}).update(facts)


def explain_failures(config: pytest.Config, explain: Explain) -> None:
    """Ask this function about each check that fails: what it returns makes the check inconclusive."""
    config.stash[EXPLAIN] = explain


def fixtures_require(config: pytest.Config, fixtures: Mapping[str, Requirement]) -> None:
    """Declare what each fixture stands for: a check that uses it needs that of the inventory."""
    config.stash[cases.FIXTURES] = fixtures


@pytest.fixture
def evidence(request: pytest.FixtureRequest) -> EvidenceBox:
    """Figures and files that prove the verdict of this check."""
    item: pytest.Item = request.node
    if BOX not in item.stash:
        pytest.fail("the fixture `evidence` is for checks of a claim; add @claim(...)", pytrace=False)
    return item.stash[BOX]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the suite's options."""
    options.add(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Read the inventory before anything else, and end with one sentence where it is of no use."""
    if any(getattr(config.option, name, None) for name in ASKS_PYTEST):
        return None
    if getattr(config.option, "numprocesses", None):  # pytest-xdist's, where it is installed
        sentence = "one lab carries one check at a time; leave --numprocesses (-n) out"
        return _refuse(sentence, ExitCode.NOTHING_RAN)
    try:
        lab = options.hosts(config)
    except InventoryError as error:
        return _refuse(f"{error}; then type: pytest conformance/ --hosts=inventory", ExitCode.LAB_BROKEN)
    if sentence := options.find_testinfra_option(config) or options.unknown_claim(config):
        return _refuse(sentence, ExitCode.NOTHING_RAN)
    config.stash[RUN] = Run(
        lab=lab,
        rules=options.rules(config),
        folder=options.results_folder(config, lab),
        deadline=config.option.deadline,
        options=options.recorded(config),
        limits=dict(config.option.limit),
    )
    return None


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker; the suite's own summary replaces pytest's short one."""
    config.addinivalue_line(
        "markers", "claim(name, case, timing, requires): the claim of the catalogue that this checks"
    )
    if RUN in config.stash:
        config.option.reportchars = ""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Refuse checks of unknown claims."""
    cases.refuse(metafunc)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give checks their cases, keep those that were asked for, and put families in order."""
    try:
        cases.assign(items)
    except ValueError as error:
        pytest.exit(str(error), returncode=ExitCode.NOTHING_RAN)
    if config.option.limit and (sentence := options.unknown_figure(config, items)):
        pytest.exit(sentence, returncode=ExitCode.NOTHING_RAN)
    cases.select(config, items)
    cases.order(items)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Name the lab."""
    if (run := config.stash.get(RUN, None)) is None:
        return []
    return [f"lab: {run.lab.name} ({len(run.lab.hosts)} hosts) from {run.lab.source}"]


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> list[str]:
    """List claims where only a list was asked for."""
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
    """Return that and why a check will not run on this inventory; nothing where it will."""
    reason = cases.missing(item, lab_of(item.config))
    return f"unsupported here: {make_printable(reason.what)}" if reason else ""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """End a check whose requirements the inventory does not meet, with the words of ``--list``."""
    if case_of(item) and (reason := cases.missing(item, lab_of(item.config))):
        raise reason


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run nothing under ``--list``; else make ready for the first check."""
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
    """Run a check, once more where it is sensitive to timing, and report one verdict for it."""
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
    check = run.record(case, [seen.attempt for seen in tries], getattr(error, "next_step", ""))
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
            views.write(run.result(_selected(item.session), unfinished=True), run.folder)
        except OSError as full:
            broken = disk_full_error(run.folder, full)
            run.stop(Ending.LAB_BROKEN, str(broken), broken.next_step)
        else:
            live.report_so_far(_shown(item.config, run.folder / "report.html"))
    return True


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Tell what several checks share from a check's own: its failure accuses no claim.

    Where every check needs it, the session cannot be set up, and the run ends here.
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
    """Keep the exception itself: reports hold only its text."""
    if call.excinfo is not None and RAISED in item.stash:
        item.stash[RAISED].append(call.excinfo.value)
    return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """Count a check under its verdict's word, without pytest's letter: its line is printed already."""
    check = getattr(report, "check", None)
    return (CATEGORIES[check.verdict], "", "") if isinstance(check, Check) else None


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write the result and its views, and end with the suite's exit code."""
    run = session.config.stash.get(RUN, None)
    if run is None or LIVE not in session.config.stash:
        session.exitstatus = _exit_without_checks(exitstatus)
        return
    if exitstatus == pytest.ExitCode.INTERRUPTED:
        run.stop(Ending.INTERRUPTED, "the run was interrupted")
    run.other_failures = session.testsfailed > sum(c.verdict is Verdict.FAIL for c in run.checks)
    try:
        views.write(run.result(_selected(session)), run.folder)
    except OSError as full:
        broken = disk_full_error(run.folder, full)
        run.stop(Ending.LAB_BROKEN, str(broken), broken.next_step)
        run.ending = Ending.LAB_BROKEN  # whatever else has stopped it, this is why nothing is written
    session.config.stash[RESULT] = run.result(_selected(session))
    session.exitstatus = run.exit_code()
    if session.config.option.tbstyle == "auto" and not run.other_failures:
        session.config.option.tbstyle = "no"  # the summary explains failures; tracebacks are for who asks


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what did not pass, the counts, and where the report is; pytest's last line follows."""
    config = terminalreporter.config
    if RESULT not in config.stash:
        return
    report = config.stash[RUN].folder / "report.html"
    terminalreporter.line("")
    for line in summary(config.stash[RESULT], _shown(config, report) if report.exists() else ""):
        config.stash[LIVE].line(line)


def _selected(session: pytest.Session) -> list[Case]:
    return [case for item in session.items if (case := case_of(item))]


def _shown(config: pytest.Config, path: Path) -> str:
    """Return a path as short as it can be from where the command was typed."""
    here = config.invocation_params.dir
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _refuse(sentence: str, code: ExitCode) -> int:
    print(f"ERROR: {make_printable(sentence)}", file=sys.stderr)
    return int(code)


def _exit_without_checks(status: int) -> int:
    """Translate pytest's own codes where they would be mistaken for the suite's."""
    mine: dict[int, ExitCode] = {
        pytest.ExitCode.NO_TESTS_COLLECTED: ExitCode.NOTHING_RAN,
        pytest.ExitCode.INTERNAL_ERROR: ExitCode.LAB_BROKEN,
    }
    return int(mine.get(status, status))


def _report(item: pytest.Item, check: Check, seen: Seen | None) -> pytest.TestReport:
    """Return the one report of a check that the rest of pytest sees; ``--tb=long`` shows its traceback."""
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
