"""A working directory for the tests of inventories that holds none of their files."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def outside(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Change to an empty folder: errors name files below the working directory by their relative path.

    Without this, the tests of these paths fail where TMPDIR lies inside the checkout.
    """
    monkeypatch.chdir(tmp_path_factory.mktemp("outside"))
