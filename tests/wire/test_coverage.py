"""No row of the catalogue is silently absent: from the suite, its files' text, what was seen red."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from mptcp_lab import catalogue
from mptcp_lab.paths import ROOT
from mptcp_lab.wire.rows import ROWS as PASSIVE
from tests.e2e import test_sabotage_rfc8684 as sabotage
from tests.wire.test_rows import KERNEL_DEVIATIONS, NOT_SHOWN, RED

ROWS = {claim.alias: claim for claim in catalogue.claims().values() if claim.family == "rfc8684"}
MODULES = sorted((ROOT / "conformance" / "rfc8684").glob("test_*.py"))
#: SHOULDs that the kernel does not keep: the suite's run is where they are seen.
NOT_STRICT = {"R48": "Linux: no keepalive before the subflow is closed"}


@cache
def collected() -> str:
    command = [str(Path(sys.executable).with_name("pytest")), "conformance/", "--list", "--family=rfc8684"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert "in the catalogue without a check here" in done.stdout, done.stdout + done.stderr
    return done.stdout


def test_every_row_has_a_check() -> None:
    listed = collected()
    assert len(ROWS) == 61
    absent = [
        row.alias for row in ROWS.values() if not re.search(rf"^{re.escape(row.id)}[\[ ]", listed, re.M)
    ]
    assert not absent


def marks(function: object) -> Iterator[pytest.Mark]:
    """The marks of a test, and those of its parameters."""
    for mark in getattr(function, "pytestmark", ()):
        yield mark
        if mark.name == "parametrize":
            for parameter in mark.args[1]:
                yield from getattr(parameter, "marks", ())


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_the_rows_of_a_file_can_be_found_by_their_numbers(path: Path, pytestconfig: pytest.Config) -> None:
    """Parameters come from tables: the docstring names each row, so that a search for R31 leads to it."""
    pytestconfig.addinivalue_line("markers", "claim: of the conformance suite")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    checked = {mark.args[0] for each in vars(module).values() for mark in marks(each) if mark.name == "claim"}
    assert set(re.findall(r"\bR\d\d\b", module.__doc__ or "")) == checked


def test_every_claim_can_be_found_by_its_name() -> None:
    text = "\n".join(path.read_text() for path in (ROOT / "conformance").rglob("*.py"))
    names = [claim.alias or claim.id for claim in catalogue.claims().values()]
    assert not [name for name in names if not re.search(rf"{re.escape(name)}\b", text)]


def seen_red() -> dict[str, list[str]]:
    """Where each row was seen red, by its number."""
    found: dict[str, list[str]] = {row: [] for row in ROWS}
    for row, capture, _ in RED:
        where = f"`{capture}` rewritten"
        if where not in found[row]:
            found[row].append(where)
    for row, capture, _ in NOT_SHOWN:
        found[row].append(f"`{capture}` without it")
    for row in sorted({row for row, _ in KERNEL_DEVIATIONS} | NOT_STRICT.keys()):
        found[row].append("the real kernel")
    by_id = {row.id: row.alias for row in ROWS.values()}
    for where, case in sabotage.reds():
        row = by_id.get(case.partition("[")[0])
        if row is not None:
            found[row].append(where)
    return found


def escaped(text: str) -> str:
    """Text for a cell of a table."""
    return text.replace("|", "\\|")


def table() -> list[str]:
    """The table of docs/dev/wire.md: every row of the RFC, and where it was seen red."""
    red, passive = seen_red(), {row.alias for row in PASSIVE}
    return [
        f"| {row.alias} | {row.id} | {row.level} | {escaped(row.text)} "
        f"| {'yes' if row.alias in passive else ''} | {'; '.join(dict.fromkeys(red[row.alias]))} |"
        for row in ROWS.values()
    ]


def test_every_row_was_seen_red() -> None:
    assert not [row for row, where in seen_red().items() if not where]


def test_the_page_says_where_every_row_was_seen_red() -> None:
    page = (ROOT / "docs" / "dev" / "wire.md").read_text().splitlines()
    assert [line for line in page if line.startswith("| R")] == table(), (
        "run: python -m tests.wire.test_coverage"
    )


if __name__ == "__main__":
    print("\n".join(table()))
