"""End a session: write the result and its views, print the summary, and set the exit status."""

from __future__ import annotations

import pytest

from mptcp_lab.evidence import disk_full_error
from mptcp_lab.plugin import views
from mptcp_lab.plugin.state import BASELINE, LIVE, RESULT, RUN, selected_cases, shorten_path
from mptcp_lab.plugin.together import end_part, is_part
from mptcp_lab.report.compare import comparison_lines, exit_line
from mptcp_lab.report.ktap import kselftest_status
from mptcp_lab.report.terminal import summary
from mptcp_lab.results.baseline import compare, exit_code
from mptcp_lab.results.result import Check
from mptcp_lab.results.verdict import Ending, ExitCode, Verdict

# The words that pytest prints with the counts in its last line.
CATEGORIES = {
    Verdict.PASS: "passed",
    Verdict.FAIL: "failed",
    Verdict.UNSUPPORTED: "skipped",
    Verdict.NON_STRICT: "xfailed",  # pytest's word for a failure that does not count
    Verdict.FLAKY: "flaky",
    Verdict.INCONCLUSIVE: "inconclusive",
}


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
        session.exitstatus = suite_status(session.config, _exit_without_checks(exitstatus))
        return
    if exitstatus == pytest.ExitCode.INTERRUPTED:
        run.stop(Ending.INTERRUPTED, "the run was interrupted")
    if is_part(session.config):
        end_part(session.config)
        return
    run.other_failures = session.testsfailed > sum(c.verdict is Verdict.FAIL for c in run.checks)
    try:
        option = session.config.option
        views.write(run.result(selected_cases(session)), run.folder, option.ktap, option.kcidb)
    except OSError as full:
        broken = disk_full_error(run.folder, full)
        run.stop(Ending.LAB_BROKEN, str(broken), broken.next_step)
        run.ending = Ending.LAB_BROKEN  # replaces an earlier ending: this is why no result is written
    session.config.stash[RESULT] = run.result(selected_cases(session))
    session.exitstatus = suite_status(session.config, _exit_code(session.config))
    if session.config.option.tbstyle == "auto" and not run.other_failures:
        session.config.option.tbstyle = "no"  # the summary explains failures; --tb prints tracebacks


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the checks that did not pass, the counts and the report's path, above pytest's last line."""
    config = terminalreporter.config
    if RESULT not in config.stash:
        return
    report = config.stash[RUN].folder / "report.html"
    terminalreporter.line("")
    for line in summary(config.stash[RESULT], shorten_path(config, report) if report.exists() else ""):
        config.stash[LIVE].line(line)
    if baseline := config.stash[BASELINE]:
        terminalreporter.line("")
        lines = comparison_lines(compare(baseline, config.stash[RESULT]), with_figures=False)
        for line in (*lines, exit_line(_exit_code(config))):
            config.stash[LIVE].line(line)


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


def suite_status(config: pytest.Config, code: int) -> int:
    """Return the exit status for an exit code of the suite: with ``--ktap`` that of a kselftest."""
    return kselftest_status(code, config.stash.get(RESULT, None)) if config.option.ktap else code
