"""Copy the results and packets that a matrix shows to a folder that is small enough for a repository."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from mptcp_lab.report.html import read_evidence
from mptcp_lab.report.matrix.columns import Column, Piece
from mptcp_lab.report.matrix.rows import DEVIATION, CaseRow, ClaimRow
from mptcp_lab.results.result import Check, Evidence, save
from mptcp_lab.results.verdict import Verdict


def keep_runs(columns: Sequence[Column], rows: Sequence[ClaimRow], folder: Path) -> list[Path]:
    """Write the results of all columns to folders below `folder`, and return these.

    A result keeps every check, reason and figure, and the evidence that a matrix shows. The path of an
    inventory outside of the checkout is left out, but for its last part.
    """
    cases = [case for row in rows for case in row.cases if _has_packets(case)]
    shown = {id(cell.check) for case in cases for cell in case.cells if cell}
    kept: list[Path] = []
    for piece in (piece for column in columns for piece in column.pieces):
        name = re.sub(r"[^\w-]", "-", piece.result.run_id)  # results come from anywhere
        # Runs of several machines that started in the same second have equal names.
        names = (name, *(f"{name}-{number}" for number in range(2, len(kept) + 2)))
        free = next(folder / each for each in names if folder / each not in kept)
        kept.append(_keep_run(piece, free, shown))
    return kept


def _has_packets(case: CaseRow) -> bool:
    """Return whether a matrix shows packets of a case."""
    return case.is_different or any(cell.check.verdict is not Verdict.PASS for cell in case.cells if cell)


def _keep_run(piece: Piece, folder: Path, shown: Collection[int]) -> Path:
    (folder / "evidence").mkdir(parents=True, exist_ok=True)
    checks, number = [], 0
    for check in piece.result.checks:
        files = []
        for evidence in (each for each in check.evidence if _is_kept(each, id(check) in shown)):
            content = read_evidence(piece.folder, evidence)
            if content is not None:
                number += 1
                files.append(replace(evidence, file=f"evidence/{number}"))
                (folder / files[-1].file).write_bytes(content)
        checks.append(_with_evidence(check, files))
    source = str(piece.result.lab.get("source", ""))
    lab = {**piece.result.lab, "source": Path(source).name if source.startswith("/") else source}
    save(replace(piece.result, checks=tuple(checks), lab=lab), folder / "result.json")
    return folder


def _is_kept(evidence: Evidence, has_packets: bool) -> bool:
    return evidence.name.startswith(DEVIATION) or (has_packets and evidence.kind == "packets")


def _with_evidence(check: Check, files: Sequence[Evidence]) -> Check:
    """Return a check with this evidence of its last attempt, and none of earlier attempts."""
    if not check.attempts:
        return check
    *earlier, last = check.attempts
    attempts = (*(replace(each, evidence=()) for each in earlier), replace(last, evidence=tuple(files)))
    return replace(check, attempts=attempts)
