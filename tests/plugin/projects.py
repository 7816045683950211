"""Write small projects whose suite is run as a user types it, in a separate process."""

from __future__ import annotations

from pathlib import Path

from mptcp_lab.paths import ROOT


def write_project(folder: Path, suite: str) -> Path:
    """Write a project that has this suite and uses the package of the checkout; return its folder."""
    (folder / "pyproject.toml").write_text(f'[tool.pytest.ini_options]\npythonpath = ["{ROOT}"]\n')
    checks = folder / "conformance"
    checks.mkdir()
    (checks / "conftest.py").write_text('pytest_plugins = ["mptcp_lab.plugin"]\n')
    (checks / "test_suite.py").write_text(suite)
    return folder
