"""Make the rows of a matrix: claims with their cases, what differs, and the corrections that explain it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mptcp_lab import catalogue
from mptcp_lab.catalogue import Correction
from mptcp_lab.report.matrix.columns import Column, Piece
from mptcp_lab.results.result import Check
from mptcp_lab.results.verdict import Verdict

#: The verdict that stands for several cases: the first of these that one of them has.
WORST_FIRST = (
    Verdict.FAIL,
    Verdict.INCONCLUSIVE,
    Verdict.NON_STRICT,
    Verdict.FLAKY,
    Verdict.PASS,
    Verdict.UNSUPPORTED,
)
#: Name of the evidence by which a check keeps a known deviation (mptcp_lab/suite/deviations.py).
DEVIATION = "known deviation: "
KNOWN = "known"


@dataclass(frozen=True)
class Cell:
    """One case in one column; ``known`` is the correction by which it is a known deviation, or None."""

    check: Check
    piece: Piece
    known: Correction | None

    @property
    def kind(self) -> str:
        """Return the word of the cell: its verdict, or `KNOWN` for a deviation that is known and no pass."""
        is_shown = self.known and self.check.verdict is not Verdict.PASS
        return KNOWN if is_shown else self.check.verdict.value


@dataclass(frozen=True)
class CaseRow:
    """A case with a cell for each column; None where a column did not run it."""

    case: str
    cells: tuple[Cell | None, ...]

    @property
    def is_different(self) -> bool:
        """Return whether columns that ran the case have different verdicts."""
        return len({cell.check.verdict for cell in self.cells if cell}) > 1

    @property
    def kinds(self) -> set[str]:
        """Return the words of all cells."""
        return {cell.kind for cell in self.cells if cell}


@dataclass(frozen=True)
class Explanation:
    """A correction of the catalogue, and the labels of the columns whose kernels it is about."""

    correction: Correction
    labels: tuple[str, ...]


@dataclass(frozen=True)
class ClaimRow:
    """A claim with its cases, a summary for each column, and the corrections about its differences."""

    check: Check
    cases: tuple[CaseRow, ...]
    explanations: tuple[Explanation, ...]

    @property
    def is_different(self) -> bool:
        """Return whether any case is different in the columns."""
        return any(case.is_different for case in self.cases)

    @property
    def kinds(self) -> set[str]:
        """Return the words of all cells of all cases."""
        return set().union(*(case.kinds for case in self.cases))

    def summary(self, column: int) -> tuple[str, str]:
        """Return the word for a column, and how many of its cases pass; empty texts if it ran none."""
        cells = [case.cells[column] for case in self.cases]
        found = [cell for cell in cells if cell]
        if not found:
            return "", ""
        kinds = {cell.kind for cell in found}
        worst = next((each.value for each in WORST_FIRST if each.value in kinds), KNOWN)
        if KNOWN in kinds and worst in (Verdict.PASS, Verdict.UNSUPPORTED):
            worst = KNOWN
        held = sum(cell.check.verdict in (Verdict.PASS, Verdict.FLAKY) for cell in found)
        return worst, f"{held}/{len(found)}" if len(found) > 1 else ""


def make_rows(columns: Sequence[Column]) -> list[ClaimRow]:
    """Return a row per claim that any column ran, in the catalogue's order."""
    cases: dict[str, dict[str, CaseRow]] = {}
    for name in dict.fromkeys(name for column in columns for name in column.checks):
        cells = tuple(_cell(column, name) for column in columns)
        first = next(cell for cell in cells if cell)
        cases.setdefault(first.check.id, {})[name] = CaseRow(name, cells)
    order = {claim: place for place, claim in enumerate(catalogue.claims())}
    return [
        _claim_row(tuple(found.values()), columns)
        for _, found in sorted(cases.items(), key=lambda entry: order.get(entry[0], len(order)))
    ]


def _claim_row(cases: tuple[CaseRow, ...], columns: Sequence[Column]) -> ClaimRow:
    checks = [cell.check for case in cases for cell in case.cells if cell]
    explanations = tuple(_explain(checks[-1].id, columns))
    return ClaimRow(checks[-1], tuple(sorted(cases, key=lambda case: not case.is_different)), explanations)


def _explain(claim: str, columns: Sequence[Column]) -> Iterator[Explanation]:
    """Yield the corrections of a claim that are about some of the columns and not about all."""
    for correction in catalogue.corrections():
        if correction.claim == claim:
            labels = tuple(column.label for column in columns if _is_about(correction, column))
            if 0 < len(labels) < len(columns):
                yield Explanation(correction, labels)


def _cell(column: Column, case: str) -> Cell | None:
    if case not in column.checks:
        return None
    check, piece = column.checks[case]
    return Cell(check, piece, find_known(check, column))


def find_known(check: Check, column: Column) -> Correction | None:
    """Return the correction by which a verdict is a known deviation of a column's kernel, or None.

    A failure is never known, since a check that accepts a deviation does not fail. A pass has the deviation
    if the check kept it as evidence, and an unsupported check if its reason is the correction's sentence.
    """
    if check.verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE):
        return None
    about = [c for c in catalogue.corrections() if c.claim == check.id and _is_about(c, column)]
    for correction in about:
        kept = any(each.name == DEVIATION + correction.name for each in check.evidence)
        if correction.name and kept:
            return correction
        if check.verdict is Verdict.NON_STRICT and correction.breached:
            return correction
        named = correction.sentence and correction.sentence in check.reason
        if check.verdict is Verdict.UNSUPPORTED and named:
            return correction
    return None


def _is_about(correction: Correction, column: Column) -> bool:
    return any(correction.is_about(kernel) for kernel in column.last.kernels)
