"""The matrix of results: columns merged of pieces, differences first, known deviations, one static page."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from mptcp_lab import catalogue
from mptcp_lab.report.__main__ import default_matrix_folder, main
from mptcp_lab.report.matrix.columns import Column, Piece, make_columns, read_pieces
from mptcp_lab.report.matrix.page import render
from mptcp_lab.report.matrix.rows import ClaimRow, make_rows
from mptcp_lab.results import result as results
from mptcp_lab.results.made_by import MadeBy
from mptcp_lab.results.result import Check, Evidence, Figure, Result, ResultError
from mptcp_lab.results.verdict import Ending, Verdict
from tests.report.conftest import LAB, a_check, an_attempt
from tests.report.test_baseline import OUTCOMES, check
from tests.report.test_views import Page

KEEPALIVE = "RFC8684-3.4.2/2"


def a_piece(
    run: Result,
    kernel: str,
    *checks: Check,
    finished: str = "2026-11-22T17:07:34.500Z",
    build: str = "#1 SMP",
    made_by: MadeBy | None = None,
    folder: Path = Path("/proc/nonexistent"),
    schema: int = results.SCHEMA,
    haproxy: str = "3.0.11",
) -> Piece:
    facts = {"kernel": kernel, "kernel_build": build, "versions": {"haproxy": haproxy}}
    hosts = [{**host, "facts": facts} for host in LAB["hosts"]]
    hosts[1] = {
        **hosts[1],
        "services": [{**hosts[1]["services"][0], "engine": "haproxy", "mptcp": "preload"}],
    }
    whole = replace(
        run,
        run_id=f"run of {finished[:10]}",
        finished=finished,
        checks=checks,
        not_run=(),
        ending=Ending.COMPLETE,
        lab={**run.lab, "hosts": hosts},
        made_by=made_by or replace(run.made_by, column=""),
        schema=schema,
    )
    return Piece(whole, folder)


def columns_of(*pieces: Piece) -> list[Column]:
    columns, notes = make_columns(pieces)
    assert notes == []
    return columns


def row_of(claim: str, *columns: Column) -> ClaimRow:
    return next(row for row in make_rows(columns) if row.check.id == claim)


def test_runs_of_equal_kernels_and_versions_are_one_column_and_the_last_verdict_counts(run: Result) -> None:
    early = a_piece(run, "6.18.44", check("DIRECT-3", Verdict.FAIL), check("DIRECT-4", Verdict.PASS))
    late = a_piece(
        run,
        "6.18.44",
        check("DIRECT-3", Verdict.PASS),
        a_check("DIRECT-4", Verdict.INCONCLUSIVE),  # never started: no verdict about the claim
        finished="2026-11-23T01:00:00.000Z",
    )
    (column,) = columns_of(late, early)
    assert column.pieces == (early, late)
    assert {case: found[0].verdict.value for case, found in column.checks.items()} == {
        "DIRECT-3": "pass",
        "DIRECT-4": "pass",
    }
    assert column.checks["DIRECT-4"][1] is early
    text = render([column], make_rows([column]), [])
    assert "2 runs, merged" in text
    assert "The last verdict of each case counts" in text


def test_what_tells_columns_apart(run: Result) -> None:
    one = check("DIRECT-3", Verdict.PASS)
    named = replace(run.made_by, column="debian-12")
    columns = columns_of(
        a_piece(run, "6.18.44", one),
        a_piece(run, "6.9.1", one),
        a_piece(run, "6.18.44", one, build="#2 SMP"),
        a_piece(run, "6.18.44", one, made_by=named),
    )
    assert [column.label for column in columns] == ["6.9.1", "6.18.44 (1)", "6.18.44 (2)", "debian-12"]


def test_a_run_without_the_proxies_of_its_lab_joins_the_only_column_that_has_them(run: Result) -> None:
    one = check("DIRECT-3", Verdict.PASS)
    whole = a_piece(run, "6.18.44", one)
    part = a_piece(run, "6.18.44", one, haproxy="", finished="2026-11-23T01:00:00.000Z")
    (column,) = columns_of(whole, part)
    assert column.pieces == (whole, part)
    assert column.proxies == ("client: haproxy 3.0.11", "server2: haproxy 3.0.11 preload")
    assert "server2: haproxy 3.0.11 preload" in render([column], make_rows([column]), [])
    newer = a_piece(run, "6.18.44", one, haproxy="3.2.1")
    assert [len(column.pieces) for column in columns_of(whole, newer, part)] == [1, 1, 1]
    other = a_piece(run, "6.18.44", one, haproxy="", build="#2 SMP")
    assert len(columns_of(whole, other)) == 2


def test_a_result_of_schema_1_joins_the_only_column_that_it_can_be_of(run: Result) -> None:
    one = check("DIRECT-3", Verdict.PASS)
    old = a_piece(run, "6.18.44", one, build="", made_by=MadeBy(), schema=1)
    unnamed = replace(run.made_by, column="")
    new = a_piece(run, "6.18.44", one, made_by=unnamed)
    assert len(columns_of(old, new)) == 1
    assert len(columns_of(old, new, a_piece(run, "6.18.44", one, build="#2 SMP", made_by=unnamed))) == 3


def test_differences_are_first_with_what_changed_in_the_kernel(run: Result) -> None:
    correction = next(c for c in catalogue.corrections() if c.name == "one family")
    lacking = replace(an_attempt(OUTCOMES[Verdict.UNSUPPORTED][0], f"Linux 6.1: {correction.sentence}"))
    old = a_piece(
        run,
        "6.1.0-56-amd64",
        check("STATE-1", Verdict.PASS),
        check("DIRECT-13[a]", Verdict.PASS),
        a_check("DIRECT-13[b]", Verdict.UNSUPPORTED, lacking),
        check("DIRECT-4", Verdict.FAIL),
    )
    new = a_piece(
        run,
        "6.18.44",
        *(check(each.case, Verdict.PASS) for each in old.result.checks),
    )
    columns = columns_of(old, new)
    row = row_of("DIRECT-13", *columns)
    assert [case.case for case in row.cases] == ["DIRECT-13[b]", "DIRECT-13[a]"]
    assert {each.labels for each in row.explanations} == {("6.1.0-56-amd64",)}
    assert (row.summary(0), row.summary(1)) == (("known", "1/2"), ("pass", "2/2"))
    text = render(columns, make_rows(columns), [])
    places = [text.index(f'id="{claim}"') for claim in ("DIRECT-4", "DIRECT-13", "STATE-1")]
    assert places == sorted(places)
    assert "Linux &gt;=5.15,&lt;6.3 (6.1.0-56-amd64): The same over IPv6" in text
    unexplained = text[text.index('id="DIRECT-4"') : text.index('id="DIRECT-13"')]
    assert "No correction of the catalogue explains this difference" in unexplained
    assert '<details class="claim f-state has-pass" id="STATE-1">' in text


@pytest.mark.parametrize(
    ("kernel", "claim", "verdict", "kind"),
    [
        ("6.18.44", KEEPALIVE, Verdict.NON_STRICT, "known"),
        ("5.15.1", KEEPALIVE, Verdict.NON_STRICT, "non-strict"),
        ("6.18.44", KEEPALIVE, Verdict.FAIL, "fail"),
        ("6.18.44", KEEPALIVE, Verdict.INCONCLUSIVE, "inconclusive"),
        ("6.18.44", "DIRECT-2", Verdict.UNSUPPORTED, "unsupported"),
    ],
)
def test_a_known_deviation_of_the_kernel_is_shown_as_such_and_a_failure_never(
    run: Result, kernel: str, claim: str, verdict: Verdict, kind: str
) -> None:
    (column,) = columns_of(a_piece(run, kernel, check(claim, verdict)))
    (row,) = make_rows([column])
    assert row.kinds == {kind}
    assert row.summary(0)[0] == kind


def test_a_case_leads_to_reason_figures_and_first_packets(run: Result, tmp_path: Path) -> None:
    packets = [{"time": number / 10, "flags": "S", "options": "<MPC>"} for number in range(9)]
    (tmp_path / "packets.json").write_text(json.dumps(packets))
    kept = (Evidence("packets", "packets", "packets.json"), Evidence("other", "packets", "../outside.json"))
    failed = an_attempt(
        OUTCOMES[Verdict.FAIL][0], "one <subflow>\x1b[31m", Figure("gap", 203.7, "ms"), evidence=kept
    )
    passed = an_attempt(OUTCOMES[Verdict.PASS][0], "", Figure("gap", 99, "ms"), evidence=kept)
    (column,) = columns_of(
        a_piece(
            run,
            "6.18.44",
            a_check("DIRECT-3", Verdict.FAIL, failed),
            a_check("DIRECT-4", Verdict.PASS, passed),
            folder=tmp_path,
        )
    )
    text = render([column], make_rows([column]), [])
    found = re.findall(r"<pre>(.*?)</pre>", text, re.DOTALL)
    assert found[0].splitlines() == [
        "0.41 s, gap 204 ms",
        "one &lt;subflow&gt;",
        "at conformance/x.py:7",
        *(f"{number / 10} S &lt;MPC&gt;" for number in range(6)),
        "and 3 more packets in the run&#39;s packets.json",
        "run run of 2026-11-22",
    ]
    assert found[1] == "0.41 s, gap 99 ms"


@pytest.mark.parametrize("content", ['{"time": 1}', '"text"', "7", "[1, 2]", "[{", "null"])
def test_packets_that_are_damaged_are_left_out(run: Result, tmp_path: Path, content: str) -> None:
    (tmp_path / "packets.json").write_text(content)
    kept = (Evidence("packets", "packets", "packets.json"),)
    failed = an_attempt(OUTCOMES[Verdict.FAIL][0], "one subflow", evidence=kept)
    piece = a_piece(run, "6.18.44", a_check("DIRECT-3", Verdict.FAIL, failed), folder=tmp_path)
    (column,) = columns_of(piece)
    assert "one subflow" in render([column], make_rows([column]), [])


def test_the_page_is_whole_needs_nothing_else_and_filters_without_a_script(run: Result) -> None:
    columns = columns_of(
        a_piece(run, "6.1.0", *run.checks),
        a_piece(run, "6.18.44", check("DIRECT-7", Verdict.FAIL), made_by=replace(run.made_by, column="<x>")),
    )
    text = render(columns, make_rows(columns), ["a/result.json: cut short"])
    page = Page(text.replace('<input type="radio"', "<br").replace('<input type="checkbox"', "<br"))
    assert page.stack == []
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert page.links == []
    assert "url(" not in text and "@import" not in text
    assert "&lt;x&gt;" in text
    assert "Left out: a/result.json: cut short" in text
    families = set(re.findall(r'class="claim f-(\w+)', text))
    assert families == {"direct", "proxy", "gateway"}
    for family in families:
        assert f'type="checkbox" id="f-{family}" checked' in text
        assert f"body:has(#f-{family}:not(:checked)) .f-{family} {{ display: none; }}" in text
    for kind in ("pass", "fail", "non-strict", "unsupported", "flaky", "inconclusive"):
        assert f'type="radio" name="v" id="v-{kind}"' in text
        assert f"body:has(#v-{kind}:checked) :is(.claim, .case):not(.has-{kind}) {{ display: none; }}" in text
    assert '<i class="none">not run</i>' in text


def test_columns_tell_versions_methods_and_what_made_them(run: Result) -> None:
    text = render(columns_of(a_piece(run, "6.18.44", *run.checks)), [], [])
    for words in ("server2: haproxy 3.0.11 preload", "#1 SMP", "hardware", "0123456789ab", "2026-11-22"):
        assert words in text
    edited = a_piece(run, "6.18.44", *run.checks, made_by=replace(run.made_by, edited=True))
    assert "0123456789ab</span> with edits" in render(columns_of(edited), [], [])


def test_the_command_writes_a_page_from_runs_and_folders_of_runs(
    run: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    for name in ("first", "second"):
        (runs / name).mkdir(parents=True)
        results.save(run, runs / name / "result.json")
    (runs / "latest").symlink_to("second")
    (runs / "cut").mkdir()
    (runs / "cut" / "result.json").write_text("{")
    assert main(["matrix", str(runs), str(tmp_path), "-o", str(tmp_path / "page")]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{tmp_path / 'page' / 'index.html'}\n"
    text = (tmp_path / "page" / "index.html").read_text()
    assert "3 runs, merged" in text
    assert f"Left out: {runs / 'cut' / 'result.json'}: cut short or not JSON" in text
    assert default_matrix_folder().name == "matrix"


def test_what_the_command_cannot_use_is_one_sentence(
    run: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut.json").write_text("{")
    hosts = [{**host, "facts": {}} for host in LAB["hosts"]]
    results.save(replace(run, lab={**run.lab, "hosts": hosts}), tmp_path / "unreached.json")
    for name, why in (
        ("missing", "No such file or directory"),
        ("empty", "no result.json in it or in its folders; give a run's folder"),
        ("cut.json", "cut short or not JSON"),
        (
            "unreached.json",
            "no host was reached; it is left out; give a result of a run that reached its hosts",
        ),
    ):
        assert main(["matrix", str(tmp_path / name), "-o", str(tmp_path / "page")]) == 2, name
        printed = capsys.readouterr()
        assert (printed.out, printed.err.count("\n")) == ("", 1)
        assert why in printed.err
    assert not (tmp_path / "page").exists()
    with pytest.raises(ResultError, match="no other result was found"):
        (tmp_path / "only" / "cut").mkdir(parents=True)
        (tmp_path / "only" / "cut" / "result.json").write_text("{")
        read_pieces([tmp_path / "only"])
