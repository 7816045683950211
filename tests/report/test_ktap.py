"""Test the KTAP view against the format's rules, and the exit statuses of a kselftest."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from mptcp_lab.report import ktap
from mptcp_lab.report.ktap import KSFT_FAIL, KSFT_PASS, KSFT_SKIP, kselftest_status
from mptcp_lab.results.result import NotRun, Result
from mptcp_lab.results.verdict import ExitCode, Outcome, Verdict
from tests.report.conftest import a_check, an_attempt

LINE = re.compile(r"(ok|not ok) (\d+) ([^#]+?)(?: # (.+))?")


def lines_at(text: str, depth: int) -> list[str]:
    indent = ktap.INDENT * depth
    lines = [line[len(indent) :] for line in text.splitlines() if line.startswith(indent)]
    return [line for line in lines if not line.startswith(" ")]


def test_the_plan_is_kept_and_numbers_are_in_order(run: Result) -> None:
    head, plan, *rest = lines_at(ktap.render(run), 0)
    assert head == "KTAP version 1"
    results = [LINE.fullmatch(line) for line in rest]
    assert all(results), rest
    assert [int(match[2]) for match in results if match] == list(range(1, int(plan.removeprefix("1..")) + 1))


def test_each_verdict_has_its_line(run: Result) -> None:
    cases = lines_at(ktap.render(run), 1)
    assert any(re.fullmatch(r"ok 1 DIRECT-7 # time=\d+ms", line) for line in cases)
    assert any(line.startswith("ok 1 DIRECT-5 # SKIP non-strict: ") for line in cases)
    assert any(re.fullmatch(r"ok 1 DIRECT-9 # time=\d+ms flaky: .*", line) for line in cases)
    assert any(line.startswith("ok 2 PROXY-1[nginx] # SKIP unsupported: ") for line in cases)
    assert sum(line.startswith("not ok ") for line in cases) == 2, "one failed, one inconclusive"
    assert any(line.startswith("# MUST: what ") for line in cases)
    assert "TODO" not in ktap.render(run)


def test_a_claim_with_one_failed_check_is_not_ok(run: Result) -> None:
    held, breached = an_attempt(Outcome.HELD, ""), an_attempt(Outcome.BREACHED, "2 != 3\nsecond line")
    checks = (a_check("DIRECT-8[a]", Verdict.PASS, held), a_check("DIRECT-8[b#1]", Verdict.FAIL, breached))
    text = ktap.render(replace(run, checks=checks, not_run=(NotRun("DIRECT-8[c]", "the deadline"),)))
    assert re.fullmatch(r"not ok 1 DIRECT-8 # time=\d+ms", lines_at(text, 0)[-1])
    _, subtest, plan, *cases = lines_at(text, 1)
    assert (subtest, plan) == ("# Subtest: DIRECT-8", "1..3")
    assert {"# fail: 2 != 3", "# second line"} <= set(cases)
    assert cases[-1] == "ok 3 DIRECT-8[c] # SKIP not started: the deadline"
    assert any(line.startswith("not ok 2 DIRECT-8[b_1] #") for line in cases), "# would end the name"


@pytest.mark.parametrize(
    ("code", "verdicts", "status"),
    [
        (ExitCode.ALL_WELL, {Verdict.PASS}, KSFT_PASS),
        (ExitCode.NOT_STRICT, {Verdict.NON_STRICT, Verdict.PASS}, KSFT_PASS),
        (ExitCode.CLAIM_FAILED, {Verdict.FAIL}, KSFT_FAIL),
        (ExitCode.NOTHING_RAN, {Verdict.UNSUPPORTED}, KSFT_SKIP),
        (ExitCode.NOTHING_RAN, {Verdict.UNSUPPORTED, Verdict.PASS}, KSFT_FAIL),
        (ExitCode.LAB_BROKEN, {Verdict.INCONCLUSIVE}, KSFT_FAIL),
        (ExitCode.LAB_BUSY, set(), KSFT_FAIL),
    ],
)
def test_the_status_of_a_kselftest(run: Result, code: int, verdicts: set[Verdict], status: int) -> None:
    ended = replace(run, checks=tuple(a_check("DIRECT-1", verdict) for verdict in verdicts))
    assert kselftest_status(code, ended) == status


def test_a_run_without_a_check_is_no_pass_and_no_skip() -> None:
    assert kselftest_status(ExitCode.LAB_BROKEN, None) == kselftest_status(2, None) == KSFT_FAIL
