"""A pytest plugin: each check that passes leaves a trace of another kind, cleared away after its verdict.

`LEAVING` holds JSON: for each trace the command that leaves it, and the one that clears it away.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator

import pytest

from mptcp_lab.suite import traces

LEAVING = "LEAVING"


class Leaver:
    """Leaves the traces in turn."""

    def __init__(self, pairs: list[tuple[list[str], list[str]]]) -> None:
        self.waiting = iter(pairs)
        self.clear: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Iterator[None]:
        yield
        leave, self.clear = next(self.waiting, ([], []))
        if leave:
            subprocess.run(leave, check=True)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Iterator[None]:
        result = yield
        if self.clear:
            subprocess.run(self.clear, check=True)
        self.clear = []
        return result


def pytest_configure(config: pytest.Config) -> None:
    traces.SETTLE_WITHIN_SECONDS = 0.5  # none of these goes away by itself
    config.pluginmanager.register(Leaver(json.loads(os.environ[LEAVING])))
