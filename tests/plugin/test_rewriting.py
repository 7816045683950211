"""Assertions in the suite's shared modules print what they compared, as those in a check do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from mptcp_lab.paths import ROOT

CONFTEST = 'pytest_plugins = ["mptcp_lab.plugin"]\n'
CHECK = """
from types import SimpleNamespace as Namespace
from mptcp_lab.suite.traffic import Ended

def test_that_fails():
    nothing = Namespace(received=Namespace(first=None, last=12.5), bytes_received=1)
    Ended(None, nothing).goodput
"""


def test_both_sides_of_a_comparison_are_in_the_reason(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text(CHECK)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    path = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=path, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "assert (None is not None)" in done.stdout
    assert "Warning" not in done.stdout
