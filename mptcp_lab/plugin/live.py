"""Print progress through pytest's terminal reporter, so that pytest's last line stays the last one."""

from __future__ import annotations

import pytest

from mptcp_lab import catalogue
from mptcp_lab.plugin.run import Case
from mptcp_lab.report.terminal import Line, check_line, family_line
from mptcp_lab.results.result import Check
from mptcp_lab.text import to_one_line


class Live:
    """Prints one line per check while checks run; prints nothing without a terminal reporter."""

    def __init__(self, config: pytest.Config) -> None:
        self._reporter: pytest.TerminalReporter | None = config.pluginmanager.get_plugin("terminalreporter")
        self._family = ""
        self._not_started = 0
        self._told = False

    def begins(self, case: Case) -> None:
        """Print the name of the running check, on a terminal only; its verdict overwrites the line."""
        self._head(case.claim.family)
        if self._reporter and self._reporter.isatty():
            self._reporter.rewrite(f"{to_one_line(case.name)} ...", erase=True)
            self._reporter.flush()

    def ends(self, check: Check) -> None:
        """Print a check's verdict; of the checks that could not start, only the first is printed."""
        if not check.attempts:
            self._not_started += 1
            if self._not_started > 1:
                return
        self._head(check.family)
        if self._reporter and self._reporter.isatty():
            self._reporter.rewrite("", erase=True)
            self._reporter.write("\r")
        self.line(check_line(check))

    def report_so_far(self, report: str) -> None:
        """Print the path of the report so far, once per run."""
        if not self._told:
            self.line([(f"report so far {report}", "dim")])
        self._told = True

    def line(self, line: Line) -> None:
        """Print one line of (text, style) spans; pytest decides about colour."""
        if not self._reporter:
            return
        for text, style in line:
            self._reporter.write(to_one_line(text), **{style: True} if style and style != "dim" else {})
        self._reporter.line("")

    def _head(self, family: str) -> None:
        if family == self._family:
            return
        self._family = family
        title = next(f.title for f in catalogue.families() if f.name == family)
        self.line([])
        self.line(family_line(family, title))
