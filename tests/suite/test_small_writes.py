"""Test how the segments of small writes are judged."""

from __future__ import annotations

import pytest

from mptcp_lab.suite.direct.small_writes import find_fault

EACH = [100] * 5


@pytest.mark.parametrize("corked", [[500, 500], [100, 400, 500]], ids=["at-once", "after-a-timer"])
def test_writes_as_asked_for_pass(corked: list[int]) -> None:
    assert not find_fault([*EACH, *corked])


@pytest.mark.parametrize(
    ("sizes", "word"),
    [
        ([500, 500, 500], "with TCP_NODELAY"),
        ([*EACH, 500], "with TCP_CORK the segments had"),
        ([*EACH, *EACH, *EACH], "held nothing back"),
        ([], "with TCP_NODELAY"),
    ],
    ids=["nagle", "lost", "no-cork", "nothing"],
)
def test_fault_is_found(sizes: list[int], word: str) -> None:
    assert word in find_fault(sizes)
