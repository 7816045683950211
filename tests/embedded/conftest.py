"""A lab that is up, for tests of the embedded lab itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.labs import OwnLab, own_lab


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnLab]:
    """A lab that is up when the module's first test begins and gone after its last."""
    lab = own_lab(tmp_path_factory.mktemp("inventory") / "own lab", "test-own")
    lab.down()
    lab.up()
    yield lab
    lab.down()
