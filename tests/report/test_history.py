"""The history of a folder of results: changed verdicts first, then times, then what stayed as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mptcp_lab.report import history
from mptcp_lab.report.__main__ import main
from mptcp_lab.report.history import make_histories, read_runs, render
from mptcp_lab.results import result as results
from mptcp_lab.results.result import Check, Result
from mptcp_lab.results.verdict import Verdict
from tests.report.conftest import a_check
from tests.report.test_baseline import a_run, check
from tests.report.test_views import Page


def a_day(run: Result, day: int, *checks: Check, patience: float = 1.5) -> Result:
    return a_run(
        run,
        *checks,
        run_id=f"day {day}",
        started=f"2026-11-{day:02}T17:06:04.000Z",
        made_by=replace(run.made_by, patience=patience),
    )


@pytest.fixture
def days(run: Result) -> list[Result]:
    """Three runs: DIRECT-3 breaks twice, DIRECT-4 breaks last, DIRECT-5 becomes slow, DIRECT-6 stays."""
    return [
        a_day(
            run,
            day,
            check("DIRECT-3", third),
            check("DIRECT-4", fourth),
            check("DIRECT-5", Verdict.PASS, seconds),
            check("DIRECT-6", Verdict.PASS),
        )
        for day, third, fourth, seconds in (
            (1, Verdict.PASS, Verdict.PASS, 2.0),
            (2, Verdict.FAIL, Verdict.PASS, 2.2),
            (3, Verdict.FAIL, Verdict.FAIL, 8.4),
        )
    ]


def test_changed_verdicts_come_first_then_times_then_the_rest(days: list[Result]) -> None:
    text = render(days, [])
    places = [text.index(f"<td>{case}</td>") for case in ("DIRECT-4", "DIRECT-3", "DIRECT-5", "DIRECT-6")]
    assert places == sorted(places)
    assert "<td>4.0</td>" in text  # 8.4 s against the median of 2.0 and 2.2 s
    assert 'title="2026-11-02 17:06: fail, 0.50 s"' in text
    page = Page(text)
    assert page.stack == []
    assert not {"script", "link", "img"} & set(page.tags)
    assert page.links == []


def test_a_run_that_has_no_verdict_of_a_case_is_no_change(run: Result) -> None:
    skipped = a_check("DIRECT-3", Verdict.INCONCLUSIVE)  # never started
    runs = [
        a_day(run, 1, check("DIRECT-3", Verdict.PASS)),
        a_day(run, 2, skipped),
        a_day(run, 3),
        a_day(run, 4, check("DIRECT-3", Verdict.PASS)),
    ]
    (found,) = make_histories(runs)
    assert (found.changes, found.run_count) == ((), 2)


@pytest.mark.parametrize(
    ("seconds", "ratio"),
    [((2.0, 2.0, 6.0), 3.0), ((6.0, 6.0, 2.0), 1 / 3), ((2.0, 2.4), 1.0), ((0.1, 0.9), 1.0), ((2.0,), 1.0)],
)
def test_a_time_changed_by_ratio_and_seconds(run: Result, seconds: tuple[float, ...], ratio: float) -> None:
    runs = [a_day(run, 1 + n, check("DIRECT-3", Verdict.PASS, each)) for n, each in enumerate(seconds)]
    assert make_histories(runs)[0].ratio == pytest.approx(ratio)


def test_times_of_runs_with_other_waits_are_not_compared(run: Result) -> None:
    runs = [
        a_day(run, 1, check("DIRECT-3", Verdict.PASS, 30.0), patience=12.0),
        a_day(run, 2, check("DIRECT-3", Verdict.PASS, 2.0)),
    ]
    assert make_histories(runs)[0].ratio == 1.0


def test_only_the_newest_runs_are_shown(days: list[Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "RUNS_SHOWN", 2)
    text = render(days, [])
    assert "2 runs, from 2026-11-02 17:06 to 2026-11-03 17:06 UTC; older runs not shown: 1" in text
    assert "day 1<" not in text


def test_the_command_reads_a_folder_once_and_names_what_it_leaves_out(
    days: list[Result], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, each in zip("cab", days, strict=True):
        (tmp_path / name).mkdir()
        results.save(replace(each, exit_code=1 if name != "c" else 0), tmp_path / name / "result.json")
    (tmp_path / "latest").symlink_to("b")
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "result.json").write_text("{")
    assert [each.run_id for each in read_runs(tmp_path)[0]] == ["day 1", "day 2", "day 3"]
    assert main(["history", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'history.html'}\n"
    assert "cut short or not JSON" in (tmp_path / "history.html").read_text()
    assert main(["history", str(tmp_path), "-o", str(tmp_path / "other.html")]) == 0
    assert (tmp_path / "other.html").exists()


def test_a_folder_without_results_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    expected = f"ERROR: {tmp_path}: no result.json in its folders; give a folder of runs\n"
    assert (printed.out, printed.err) == ("", expected)
