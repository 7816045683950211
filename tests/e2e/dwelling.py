"""A pytest plugin that stays in the first fault of a suite until it is killed, and reports it by a file."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mptcp_lab.machines import cables
from mptcp_lab.probe import Probe

TOLD = "DWELLING_TOLD"


def pytest_configure() -> None:
    Probe.fault = _dwell(Probe.fault)  # type: ignore[method-assign]
    cables.pull = _dwell(cables.pull)


def _dwell(act: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(act)
    def acted(*args: Any, **more: Any) -> Any:
        done = act(*args, **more)
        Path(os.environ[TOLD]).touch()
        time.sleep(60)  # until killed
        return done

    return acted
