"""Render a run for the terminal: one line per check, and a summary with the next commands.

A line is a list of (text, style) spans, so that the caller that prints it decides about colour.
"""

from __future__ import annotations

from collections.abc import Iterator

from mptcp_lab.report.side_by_side import comparisons
from mptcp_lab.results.causes import SharedCause
from mptcp_lab.results.result import Check, Result
from mptcp_lab.results.verdict import Ending, ExitCode, Outcome, Verdict
from mptcp_lab.text import make_printable, to_one_line

Line = list[tuple[str, str]]

STYLES = {
    Verdict.PASS: "green",
    Verdict.NON_STRICT: "yellow",
    Verdict.FAIL: "red",
    Verdict.UNSUPPORTED: "blue",
    Verdict.INCONCLUSIVE: "purple",
    Verdict.FLAKY: "yellow",
}
ANSI = {"green": "32", "yellow": "33", "red": "31", "blue": "34", "purple": "35", "bold": "1", "dim": "2"}
WORTH_TELLING = (Verdict.FAIL, Verdict.NON_STRICT, Verdict.FLAKY, Verdict.INCONCLUSIVE, Verdict.UNSUPPORTED)
CASE_WIDTH = 30
CASES_SHOWN = 8
ENDINGS = {
    ExitCode.ALL_WELL: "all well",
    ExitCode.CLAIM_FAILED: "a claim failed",
    ExitCode.NOTHING_RAN: "no check ran to its end",
    ExitCode.NOT_STRICT: "nothing failed; some checks are non-strict or flaky",
    ExitCode.LAB_BROKEN: "the lab is broken, or a check could not be decided",
    ExitCode.LAB_BUSY: "the lab is busy",
}


def check_line(check: Check) -> Line:
    """Return the line of a check: case, verdict, duration in seconds and measured figures."""
    figures = ", ".join(str(figure) for figure in check.figures)
    seconds = f"{check.duration:.2f} s" if check.attempts else ""
    return [
        (f"{check.case:<{CASE_WIDTH}} ", ""),
        (f"{check.verdict.value:<12} ", STYLES[check.verdict]),
        (f"{seconds:>8}", "dim"),
        (f"  {figures}" if figures else "", ""),
    ]


def family_line(family: str, title: str) -> Line:
    """Return the heading above the checks of a family."""
    return [(f"{family.upper()}  ", "bold"), (title, "dim")]


def summary(result: Result, report: str = "") -> Iterator[Line]:
    """Yield the lines of the summary: checks that did not pass, tables, counts, the report's path.

    A cause of several checks comes first, and once, instead of a paragraph for each of these checks.
    """
    shared = [each for each in result.causes if len(each.cases) > 1]
    grouped = {case for each in shared for case in each.cases}
    for each in shared:
        yield from _shared_cause(each)
        yield []
    for check in told_apart(result):
        if check.case not in grouped:
            yield from _explanation(check)
            yield []
    for table in comparisons(result):
        yield from ([(line, "bold" if not number else "")] for number, line in enumerate(table.lines()))
        yield []
    yield from _settings_left_out(result)
    yield from _logs_not_read(result)
    if left_out := _left_out(result):
        yield left_out
    yield _counts(result)
    if result.sentence and result.ending is not Ending.DEADLINE:
        first, *others = make_printable(result.sentence).splitlines() or [""]
        yield [(f"{result.ending.value}: ", "purple"), (first, "")]
        yield from ([(f"    {line}", "")] for line in others)
        if waiting := sum(not check.attempts for check in result.checks):
            yield [(f"{waiting} not started because of it", "yellow")]
    if result.ending is not Ending.UNFINISHED:
        code = ExitCode(result.exit_code)
        yield [(f"exit code {int(code)}: {ENDINGS[code]}", "dim")]
    if report:
        yield [(f"report {report}", "")]


def told_apart(result: Result) -> list[Check]:
    """Return the started checks that get a paragraph in the summary, the worst verdict first."""
    wanted = [check for check in result.checks if check.verdict in WORTH_TELLING and check.attempts]
    if result.ending in (Ending.LAB_BROKEN, Ending.LAB_BUSY):  # the run's closing sentence explains these
        wanted = [check for check in wanted if check.verdict is not Verdict.INCONCLUSIVE]
    return sorted(wanted, key=lambda check: WORTH_TELLING.index(check.verdict))


def _explanation(check: Check) -> Iterator[Line]:
    yield [(f"{check.verdict.value}  ", STYLES[check.verdict]), (check.case, "bold")]
    yield _fact("claim", f"{check.level.value}: {check.claim}")
    place = f"{check.where}: " if check.where and not _has_line(check) else ""
    for number, line in enumerate(make_printable(f"{place}{check.reason}").splitlines() or [""]):
        yield _fact("why" if number == 0 else "", line)
    if check.verdict is Verdict.FLAKY:
        yield _fact("", "it passed on its one retry; both results are kept")
    if check.where and not place:
        yield _fact("where", check.where)
    yield _fact("source", check.source)
    if check.cause and check.known:
        yield _fact("cause", make_printable(check.cause.what))
    if check.next_step:
        yield _fact("next", check.next_step)
    if check.diagnosis:
        yield _fact("cause", make_printable(str(check.diagnosis)))
        if check.diagnosis.next_step:
            yield _fact("next", check.diagnosis.next_step)


def _has_line(check: Check) -> bool:
    """Return whether a check's place is a line of its source, not a host."""
    return check.attempts[-1].outcome not in (Outcome.INCONCLUSIVE, Outcome.UNSUPPORTED)


def _shared_cause(shared: SharedCause) -> Iterator[Line]:
    """Yield the lines about one cause that explains several checks."""
    verdict = Verdict(shared.verdict)
    yield [(f"{verdict.value}  ", STYLES[verdict]), (shared.count, "bold")]
    first, *others = make_printable(shared.cause.what).splitlines() or [""]
    yield _fact("cause", f"{shared.cause.where}: {first}" if shared.cause.where else first)
    yield from (_fact("", line) for line in others)
    if shared.cause.next_step:
        yield _fact("next", shared.cause.next_step)
    more = len(shared.cases) - CASES_SHOWN
    shown = ", ".join(shared.cases[:CASES_SHOWN])
    yield _fact("checks", shown + (f" and {more} more" if more > 0 else ""))


def _fact(name: str, value: str) -> Line:
    return [(f"  {name:<8}", "dim"), (value, "")]


def _counts(result: Result) -> Line:
    line: Line = [("verdicts  ", "bold")]
    shown = [(verdict, result.counts[verdict]) for verdict in Verdict if result.counts[verdict]]
    for number, (verdict, count) in enumerate(shown):
        line.append((", " if number else "", ""))
        line.append((f"{count} {verdict.value}", STYLES[verdict]))
    return line if shown else [*line, ("none", "")]


def _settings_left_out(result: Result) -> Iterator[Line]:
    """Yield one line for each set of settings that kernels lack, with the hosts of these kernels."""
    hosts: dict[tuple[str, ...], list[str]] = {}
    for host in result.lab.get("hosts", ()):
        if lacking := host["facts"].get("settings_left_out"):
            hosts.setdefault(tuple(lacking), []).append(f"{host['name']} ({host['facts'].get('kernel', '')})")
    for lacking, names in hosts.items():
        text = f"{', '.join(lacking)}, which the kernel does not have on {', '.join(names)}"
        yield [("left out  ", "bold"), (text, "")]


def _logs_not_read(result: Result) -> Iterator[Line]:
    """Yield a line for each reason why kernel logs were not read, with the hosts."""
    hosts: dict[str, list[str]] = {}
    for host in result.lab.get("hosts", ()):
        if why := host["facts"].get("kernel_log"):
            hosts.setdefault(str(why), []).append(host["name"])
    for why, names in hosts.items():
        yield [("kernel log  ", "bold"), (f"{why} ({', '.join(names)})", "")]


def _left_out(result: Result) -> Line:
    if not result.not_run:
        return []
    return [(f"{len(result.not_run)} not started: {result.not_run[0].reason}", "yellow")]


def paint(line: Line, colour: bool) -> str:
    """Return a line as text, with ANSI colours if ``colour`` is true."""
    shown = [(to_one_line(text), style) for text, style in line]
    if not colour:
        return "".join(text for text, _ in shown).rstrip()
    return "".join(f"\x1b[{ANSI[style]}m{text}\x1b[0m" if style and text else text for text, style in shown)
