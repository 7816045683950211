"""Wait for a condition instead of sleeping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from mptcp_lab.patience import patient

T = TypeVar("T")
FIRST_PAUSE, LONGEST_PAUSE = 0.005, 0.1


class NeverHappened(AssertionError):
    """A condition did not become true in time; the message has the last value and the time waited."""


def eventually(read: Callable[[], T], until: Callable[[T], object], within: float, what: str = "") -> T:
    """Call ``read`` until ``until`` is true for its value, and return the value.

    Raises:
        NeverHappened: ``until`` was not true within ``within`` seconds (times the patience factor).
    """
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
