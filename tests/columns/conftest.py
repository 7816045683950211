"""The default lab, and its paths in an empty folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from mptcp_lab.inventory import Lab, load
from mptcp_lab.labs.lab_paths import LabPaths
from mptcp_lab.paths import ROOT


@pytest.fixture(scope="module")
def lab() -> Lab:
    return load(ROOT / "inventories/embedded")


@pytest.fixture
def paths(tmp_path: Path) -> LabPaths:
    own = LabPaths(tmp_path, "embedded")
    own.state.mkdir(parents=True)
    return own
