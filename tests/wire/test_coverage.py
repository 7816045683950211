"""No row of the catalogue is silently absent from the suite."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from mptcp_lab import catalogue
from mptcp_lab.inventory.load import ROOT


def collected() -> str:
    command = [str(Path(sys.executable).with_name("pytest")), "conformance/", "--list", "--family=rfc8684"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert "in the catalogue without a check here" in done.stdout, done.stdout + done.stderr
    return done.stdout


def test_every_row_has_a_check() -> None:
    listed = collected()
    rows = [claim for claim in catalogue.claims().values() if claim.family == "rfc8684"]
    assert len(rows) == 61
    absent = [row.alias for row in rows if f"\n{row.id}[" not in listed and f"\n{row.id} " not in listed]
    assert not absent
