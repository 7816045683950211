"""Render a run as KTAP version 1, for the kernel's CI systems (Documentation/dev-tools/ktap.rst)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mptcp_lab.results.result import Check, NotRun, Result
from mptcp_lab.results.verdict import ExitCode, Verdict
from mptcp_lab.text import to_one_line

VERSION = "KTAP version 1"
INDENT = "  "
#: Verdicts with an "ok" line; KTAP marks those of `SKIPPED` with the directive SKIP.
OK = frozenset({Verdict.PASS, Verdict.FLAKY, Verdict.NON_STRICT, Verdict.UNSUPPORTED})
SKIPPED = frozenset({Verdict.NON_STRICT, Verdict.UNSUPPORTED})
#: Exit statuses of a kselftest (tools/testing/selftests/kselftest.h).
KSFT_PASS, KSFT_FAIL, KSFT_SKIP = 0, 1, 4


@dataclass(frozen=True)
class Subtest:
    """A check as KTAP has it; ``seconds`` is None if it is skipped, ``diagnosis`` precedes its line."""

    name: str
    is_ok: bool
    comment: str
    seconds: float | None = None
    diagnosis: tuple[str, ...] = ()


def render(result: Result) -> str:
    """Return the document: a test per claim with a subtest per check, each with its duration in ms.

    KTAP has three results. A failed or an inconclusive check is "not ok". A check is skipped, with the
    reason, if it is unsupported, not started, or of a SHOULD that does not hold. A flaky check is "ok".
    """
    claims: dict[str, list[Subtest]] = {}
    for check in result.checks:
        claims.setdefault(check.id, []).append(_check_subtest(check))
    for case in result.not_run:
        claims.setdefault(case.case.partition("[")[0], []).append(_not_started(case))
    lines = [VERSION, f"1..{len(claims)}"]
    for number, (claim, subtests) in enumerate(claims.items(), 1):
        lines += [INDENT + line for line in _subtest_lines(claim, subtests)]
        lines.append(_result_line(number, _summed_up(claim, subtests)))
    return "\n".join([*lines, ""])


def kselftest_status(code: int, result: Result | None) -> int:
    """Return a kselftest's exit status for an exit code of the suite; skip if no selected check is supported.

    ``result`` is None for a run that ended before its first check.
    """
    if code in (ExitCode.ALL_WELL, ExitCode.NOT_STRICT):
        return KSFT_PASS
    verdicts = {check.verdict for check in result.checks} if result else set()
    skipped = verdicts == {Verdict.UNSUPPORTED}
    return KSFT_SKIP if code is ExitCode.NOTHING_RAN and skipped else KSFT_FAIL


def _check_subtest(check: Check) -> Subtest:
    if check.verdict in SKIPPED:
        return Subtest(check.case, True, f"SKIP {check.verdict.value}: {check.reason}")
    if check.verdict in OK:
        flaky = "flaky: passed on the retry only" if check.verdict is Verdict.FLAKY else ""
        return Subtest(check.case, True, flaky, check.duration)
    texts: tuple[str, ...] = (f"{check.level.value}: {check.claim}", f"{check.verdict.value}: {check.reason}")
    causes = (f"cause: {check.diagnosis}", check.diagnosis.next_step) if check.diagnosis else ()
    texts = (*texts, check.where, check.next_step, *causes)
    diagnosis = [line for text in texts for line in text.splitlines()]
    return Subtest(check.case, False, "", check.duration, tuple(filter(None, diagnosis)))


def _not_started(case: NotRun) -> Subtest:
    return Subtest(case.case, True, f"SKIP not started: {case.reason}")


def _summed_up(claim: str, subtests: Sequence[Subtest]) -> Subtest:
    """Return the result of a claim, which is skipped only if all of its checks are."""
    times = [each.seconds for each in subtests if each.seconds is not None]
    if not times:
        return Subtest(claim, True, f"SKIP all {len(subtests)} subtests")
    return Subtest(claim, all(each.is_ok for each in subtests), "", sum(times))


def _subtest_lines(claim: str, subtests: Sequence[Subtest]) -> Iterator[str]:
    yield VERSION
    yield f"# Subtest: {claim}"
    yield f"1..{len(subtests)}"
    for number, subtest in enumerate(subtests, 1):
        yield from (f"# {to_one_line(line)}" for line in subtest.diagnosis)
        yield _result_line(number, subtest)


def _result_line(number: int, subtest: Subtest) -> str:
    time = "" if subtest.seconds is None else f"time={subtest.seconds * 1000:.0f}ms"
    comment = " ".join(f"{time} {subtest.comment}".split())
    name = subtest.name.replace("#", "_")  # "#" would end the name
    return to_one_line(f"{'ok' if subtest.is_ok else 'not ok'} {number} {name} # {comment}")
