"""Wait for a condition instead of sleeping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from mptcp_lab.patience import patient

T = TypeVar("T")
FIRST_PAUSE, LONGEST_PAUSE = 0.005, 0.1


class NeverHappened(AssertionError):
    """A condition did not come true in its time; says what was read last and how long it was waited for."""


def eventually(read: Callable[[], T], until: Callable[[T], object], within: float, what: str = "") -> T:
    """Read until ``until`` holds of the value and return it. Else raises NeverHappened."""
    within = patient(within)
    started = time.monotonic()
    pause = FIRST_PAUSE
    while True:
        value = read()
        if until(value):
            return value
        waited = time.monotonic() - started
        if waited >= within:
            raise NeverHappened(
                f"{what or 'condition'}: not within {waited:.2f} s; last value read: {value!r}"
            )
        time.sleep(min(pause, within - waited))
        pause = min(pause * 1.5, LONGEST_PAUSE)
