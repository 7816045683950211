"""tshark, the independent cross-check: the same fields from the same capture, per packet."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

Row = dict[str, list[str]]

_OPTIONS = (
    "mptcp.analyze_mappings:TRUE",
    "mptcp.analyze_mptcp:TRUE",
    "mptcp.relative_sequence_numbers:FALSE",
)


def fields(path: Path, *names: str, extra: tuple[str, ...] = ()) -> list[Row]:
    """One dictionary per packet: every occurrence of each field. A missing tshark fails the test."""
    if shutil.which("tshark") is None:
        pytest.fail(
            "tshark is missing: apt install tshark (the test set-up does); nothing else can replace it here"
        )
    command = [
        "tshark",
        "-n",
        "-2",
        "-r",
        str(path),
        "-T",
        "fields",
        "-E",
        "separator=/t",
        "-E",
        "aggregator= ",
    ]
    for option in _OPTIONS + extra:
        command += ["-o", option]
    for name in names:
        command += ["-e", name]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [
        dict(zip(names, (cell.split() for cell in line.split("\t")), strict=True))
        for line in out.splitlines()
    ]


def numbers(row: Row, name: str) -> list[int]:
    """A field's occurrences as integers, whatever base tshark prints."""
    return [
        {"True": 1, "False": 0}[each] if each in ("True", "False") else int(each, 0) for each in row[name]
    ]
