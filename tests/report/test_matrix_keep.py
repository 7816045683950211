"""Test that a matrix made of kept results is the same page as one made of the whole results."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from mptcp_lab.report.__main__ import main
from mptcp_lab.results import result as results
from mptcp_lab.results.result import Evidence, Result
from mptcp_lab.results.verdict import Verdict
from tests.report.conftest import a_check, an_attempt
from tests.report.test_baseline import OUTCOMES
from tests.report.test_matrix import a_piece

DEVIATION = Evidence("known deviation: self-joins", "text", "deviation.txt")
PACKETS = Evidence("packets", "packets", "packets.json")
OTHERS = (Evidence("capture", "pcap", "capture.pcapng.gz"), Evidence("away", "packets", "../outside.json"))


def a_run(run: Result, folder: Path, kernel: str, verdict: Verdict, run_id: str) -> Path:
    """Write a run with one check of this verdict and one that passes, and all kinds of evidence."""
    folder.mkdir()
    (folder / "packets.json").write_text(json.dumps([{"time": 0.1, "flags": "S"}]))
    (folder / "deviation.txt").write_text("it joins its own addresses\n")
    (folder / "capture.pcapng.gz").write_bytes(b"much")
    evidence = (DEVIATION, PACKETS, *OTHERS)
    checks = (
        a_check("DIRECT-4", verdict, an_attempt(OUTCOMES[verdict][0], "a reason", evidence=evidence)),
        a_check("DIRECT-7", Verdict.PASS, an_attempt(OUTCOMES[Verdict.PASS][0], "", evidence=evidence)),
    )
    piece = a_piece(run, kernel, *checks)
    whole = replace(piece.result, run_id=run_id, exit_code=int(verdict is Verdict.FAIL))
    whole = replace(whole, lab={**whole.lab, "source": "/home/somebody/rack1"})
    results.save(whole, folder / "result.json")
    return folder


def test_page_of_what_was_kept_is_the_same_page(run: Result, tmp_path: Path) -> None:
    first = a_run(run, tmp_path / "first", "6.1.0", Verdict.FAIL, "20261129-first")
    second = a_run(run, tmp_path / "second", "6.18.44", Verdict.PASS, "../../20261129-second")
    whole, again, kept = tmp_path / "whole", tmp_path / "again", tmp_path / "kept"
    assert main(["matrix", str(first), str(second), "-o", str(whole), "--keep", str(kept)]) == 0
    assert main(["matrix", str(kept), "-o", str(again)]) == 0
    assert (whole / "index.html").read_text() == (again / "index.html").read_text()
    assert "0.1 S" in (again / "index.html").read_text()


def test_runs_with_equal_names_are_all_kept(run: Result, tmp_path: Path) -> None:
    kernels = ("6.1.0", "6.12.0", "6.18.44")
    runs = [
        str(a_run(run, tmp_path / kernel, kernel, Verdict.PASS, "20261129-embedded")) for kernel in kernels
    ]
    kept = tmp_path / "kept"
    assert main(["matrix", *runs, "-o", str(tmp_path / "page"), "--keep", str(kept)]) == 0
    found = {str(results.load(folder).lab["hosts"][0]["facts"]["kernel"]) for folder in kept.iterdir()}
    assert found == set(kernels)


def test_only_evidence_that_a_page_shows_is_kept(run: Result, tmp_path: Path) -> None:
    first = a_run(run, tmp_path / "first", "6.1.0", Verdict.FAIL, "../../first")
    kept = tmp_path / "page" / "kept"
    assert main(["matrix", str(first), "-o", str(tmp_path / "page"), "--keep", str(kept)]) == 0
    (folder,) = kept.iterdir()
    assert folder.name == "------first"
    assert results.load(folder).lab["source"] == "rack1"
    failed, passed = results.load(folder).checks
    assert [each.name for each in failed.evidence] == ["known deviation: self-joins", "packets"]
    assert [each.name for each in passed.evidence] == ["known deviation: self-joins"]
    assert len(list((folder / "evidence").iterdir())) == 3
