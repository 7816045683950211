"""Fixtures of the embedded lab's tests: a lab that is up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.labs import OwnLab, own_lab


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnLab]:
    """Yield a lab that is brought up before the module's first test and removed after its last one."""
    lab = own_lab(tmp_path_factory.mktemp("inventory") / "own lab", "test-own")
    lab.down()
    lab.up()
    yield lab
    lab.down()
