"""Test the comparison of a run with an earlier one, and the exit status that follows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mptcp_lab.catalogue.level import Level
from mptcp_lab.report.__main__ import main
from mptcp_lab.report.compare import comparison_lines, exit_line
from mptcp_lab.report.terminal import paint
from mptcp_lab.results import baseline
from mptcp_lab.results import result as results
from mptcp_lab.results.baseline import Change, classify, compare
from mptcp_lab.results.result import Check, Figure, NotRun, Result
from mptcp_lab.results.verdict import Ending, ExitCode, Outcome, Verdict
from tests.report.conftest import a_check, an_attempt

OUTCOMES = {
    Verdict.PASS: (Outcome.HELD,),
    Verdict.FLAKY: (Outcome.BREACHED, Outcome.HELD),
    Verdict.NON_STRICT: (Outcome.BREACHED,),
    Verdict.FAIL: (Outcome.BREACHED,),
    Verdict.UNSUPPORTED: (Outcome.UNSUPPORTED,),
    Verdict.INCONCLUSIVE: (Outcome.INCONCLUSIVE,),
}


def check(case: str, verdict: Verdict, seconds: float = 0.5) -> Check:
    outcomes = OUTCOMES[verdict]
    tries = [replace(an_attempt(each, "why"), duration=seconds / len(outcomes)) for each in outcomes]
    level = Level.SHOULD if verdict is Verdict.NON_STRICT else Level.MUST
    return a_check(case, verdict, *tries, level=level)


def a_run(run: Result, *checks: Check, **changes: object) -> Result:
    whole = {"checks": checks, "not_run": (), "ending": Ending.COMPLETE, "sentence": "", **changes}
    return replace(run, **whole)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        ("pass", "fail", Change.BROKE),
        ("unsupported", "fail", Change.BROKE),
        ("inconclusive", "fail", Change.BROKE),
        ("pass", "non-strict", Change.BROKE),
        ("flaky", "non-strict", Change.BROKE),
        ("pass", "inconclusive", Change.UNDECIDED),
        ("pass", "unsupported", Change.UNDECIDED),
        ("fail", "inconclusive", Change.UNDECIDED),
        ("unsupported", "inconclusive", Change.OTHER),
        ("fail", "non-strict", Change.FIXED),
        ("fail", "flaky", Change.FIXED),
        ("non-strict", "pass", Change.FIXED),
        ("inconclusive", "pass", Change.FIXED),
        ("flaky", "pass", Change.FIXED),
        ("pass", "flaky", Change.OTHER),
        ("unsupported", "non-strict", Change.OTHER),
        ("fail", "fail", None),
    ],
)
def test_a_change_of_verdict_has_one_name(before: str, after: str, change: Change | None) -> None:
    assert classify(check("DIRECT-3", Verdict(before)), check("DIRECT-3", Verdict(after))) is change


@pytest.mark.parametrize(
    ("before", "after", "is_slower"),
    [(2.0, 3.5, True), (2.0, 2.9, False), (0.1, 0.9, False), (10.0, 12.0, False), (0.0, 1.0, True)],
)
def test_slower_needs_both_a_ratio_and_seconds(before: float, after: float, is_slower: bool) -> None:
    found = classify(check("DIRECT-3", Verdict.PASS, before), check("DIRECT-3", Verdict.PASS, after))
    assert found is (Change.SLOWER if is_slower else None)


def test_only_what_got_worse_changes_the_exit_status(run: Result) -> None:
    old = a_run(run, check("DIRECT-3", Verdict.PASS), check("DIRECT-4", Verdict.FAIL))
    for verdict, code in (
        (Verdict.PASS, ExitCode.ALL_WELL),
        (Verdict.FLAKY, ExitCode.ALL_WELL),
        (Verdict.FAIL, ExitCode.CLAIM_FAILED),
        (Verdict.INCONCLUSIVE, ExitCode.LAB_BROKEN),
        (Verdict.UNSUPPORTED, ExitCode.LAB_BROKEN),
    ):
        later = a_run(run, check("DIRECT-3", verdict, 99.0), check("DIRECT-4", Verdict.FAIL))
        assert compare(old, later).exit_code is code, verdict
    new = a_run(run, *old.checks, check("DIRECT-9", Verdict.FAIL))
    assert compare(old, new).exit_code is ExitCode.ALL_WELL
    assert [each.check.case for each in compare(old, new).select(Change.NEW)] == ["DIRECT-9"]


def test_a_broken_lab_and_other_failures_keep_their_exit_status(run: Result) -> None:
    old = a_run(run, check("DIRECT-3", Verdict.PASS))
    broken = compare(old, a_run(run, check("DIRECT-3", Verdict.FAIL), ending=Ending.LAB_BROKEN))
    codes = [
        baseline.exit_code(broken, ExitCode.LAB_BROKEN, has_other_failures=False),
        baseline.exit_code(compare(old, old), ExitCode.NOTHING_RAN, has_other_failures=False),
        baseline.exit_code(compare(old, old), ExitCode.CLAIM_FAILED, has_other_failures=True),
        baseline.exit_code(compare(old, old), ExitCode.NOT_STRICT, has_other_failures=False),
    ]
    assert codes == [4, 2, 1, 0]


@pytest.mark.parametrize("ending", [Ending.INTERRUPTED, Ending.UNFINISHED, Ending.DEADLINE])
def test_a_run_that_was_cut_short_keeps_its_exit_status(run: Result, ending: Ending) -> None:
    old = a_run(run, check("DIRECT-3", Verdict.FAIL))
    cut = compare(old, a_run(run, *old.checks, ending=ending, options={**run.options, "expect_all": True}))
    code = baseline.exit_code(cut, ExitCode.CLAIM_FAILED, has_other_failures=False)
    assert code is ExitCode.CLAIM_FAILED


def test_cases_that_only_one_runs_options_selected_are_a_note(run: Result) -> None:
    both = a_run(run, check("DIRECT-3", Verdict.PASS), check("PROXY-1[a]", Verdict.PASS))
    part = a_run(run, both.checks[0], options={**run.options, "family": ["direct"]})
    for before, after in ((both, part), (part, both)):
        comparison = compare(before, after)
        assert comparison.differences == ()
        assert "1 case not compared: only one run's options selected them" in comparison.notes
    assert [each.change for each in compare(both, a_run(run, both.checks[0])).differences] == [Change.GONE]


def test_cases_that_the_baseline_did_not_start_are_a_note_and_not_new(run: Result) -> None:
    new = a_run(run, check("DIRECT-3", Verdict.PASS), check("DIRECT-4", Verdict.PASS))
    not_run = (NotRun("DIRECT-4", "interrupted"),)
    cut = a_run(run, new.checks[0], not_run=not_run, ending=Ending.INTERRUPTED, sentence="interrupted")
    comparison = compare(cut, new)
    assert comparison.differences == ()
    assert comparison.notes[-1] == "1 case not compared: not started in the baseline"


def test_cases_that_were_not_started_are_a_note(run: Result) -> None:
    old = a_run(run, check("DIRECT-3", Verdict.PASS), check("DIRECT-4", Verdict.PASS))
    late = a_run(
        run,
        old.checks[0],
        not_run=(NotRun("DIRECT-4", "the deadline was reached"),),
        ending=Ending.DEADLINE,
        sentence="the deadline was reached",
    )
    comparison = compare(old, late)
    assert (comparison.differences, comparison.exit_code) == ((), ExitCode.ALL_WELL)
    assert comparison.notes == (
        "the later run ended early (deadline): the deadline was reached",
        "1 case of the baseline not started: the deadline was reached",
    )


def test_times_are_not_compared_where_waits_were_multiplied(run: Result) -> None:
    old = a_run(run, check("DIRECT-3", Verdict.PASS))
    slow = a_run(run, check("DIRECT-3", Verdict.PASS, 60), made_by=replace(run.made_by, patience=12.0))
    comparison = compare(old, slow)
    assert comparison.differences == ()
    assert "times are not compared: the waits of the runs were multiplied by 1.5 and 12" in comparison.notes


def test_lines_are_by_claim_and_case_and_end_with_counts(run: Result) -> None:
    gap = replace(an_attempt(Outcome.HELD, "", Figure("gap", 200.0, "ms")), duration=1.0)
    longer = replace(an_attempt(Outcome.HELD, "", Figure("gap", 400.0, "ms")), duration=4.0)
    old = a_run(
        run,
        check("PROXY-1[a]", Verdict.PASS),
        check("PROXY-1[b]", Verdict.PASS),
        a_check("DIRECT-7", Verdict.PASS, gap),
    )
    new = a_run(
        run,
        check("PROXY-1[a]", Verdict.FAIL),
        check("PROXY-1[b]", Verdict.FAIL),
        a_check("DIRECT-7", Verdict.PASS, longer),
        check("DIRECT-9", Verdict.PASS),
    )
    lines = [paint(line, colour=False) for line in comparison_lines(compare(old, new))]
    assert lines == [
        "baseline  20261122T170604Z-rack1; Linux 6.18.44",
        "compared  20261122T170604Z-rack1; Linux 6.18.44",
        "broke  PROXY-1  2 cases",
        "  PROXY-1[a]: pass -> fail (why)",
        "  PROXY-1[b]: pass -> fail (why)",
        "new  DIRECT-9  1 case",
        "  DIRECT-9: pass",
        "slower  DIRECT-7  1 case",
        "  DIRECT-7: 1.00 s -> 4.00 s (4.0 times)",
        "figure  DIRECT-7: gap 200 -> 400 ms (+100%)",
        "changes  2 broke, 0 undecided, 0 fixed, 0 other, 1 new, 0 gone, 1 slower",
    ]
    assert paint(exit_line(ExitCode.CLAIM_FAILED), colour=False) == "exit status 1: something broke"


def test_a_figure_that_hardly_moved_is_no_news(run: Result) -> None:
    old, new = (
        a_run(
            run, a_check("DIRECT-7", Verdict.PASS, an_attempt(Outcome.HELD, "", Figure("gap", value, "ms")))
        )
        for value in (203.7, 210.0)
    )
    assert not [line for line in comparison_lines(compare(old, new)) if line[0][0].startswith("figure")]


def test_the_command_exits_with_1_for_what_broke(
    run: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [tmp_path / f"{name}.json" for name in ("old", "new", "cut", "schema1")]
    results.save(a_run(run, check("DIRECT-3", Verdict.PASS), exit_code=0), paths[0])
    results.save(a_run(run, check("DIRECT-3", Verdict.FAIL), exit_code=1), paths[1])
    assert main(["compare", str(paths[0]), str(paths[0])]) == 0
    assert main(["compare", str(paths[0]), str(paths[1])]) == 1
    assert capsys.readouterr().out.endswith("exit status 1: something broke\n")
    paths[2].write_text(paths[0].read_text()[:-40])
    assert main(["compare", str(paths[2]), str(paths[1])]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert "cut short or not JSON" in printed.err
    document = json.loads(paths[0].read_text()) | {"schema": 1}
    del document["causes"]
    del document["made_by"]
    paths[3].write_text(json.dumps(document))
    assert main(["compare", str(paths[3]), str(paths[1])]) == 1
    sentence = "note  the baseline has schema 1, which does not have what made it; cases are compared"
    assert sentence in capsys.readouterr().out
