"""The order of the project's own tests: what takes longest begins first, so that no worker ends alone."""

import pytest

LONGEST_FIRST = ("tests/e2e/test_whole_suite.py", "tests/e2e/", "tests/embedded/", "tests/probe/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take long before all others; the order within a file stays."""
    items.sort(key=lambda item: _place(item.nodeid))


def _place(nodeid: str) -> int:
    return next((n for n, start in enumerate(LONGEST_FIRST) if nodeid.startswith(start)), len(LONGEST_FIRST))
