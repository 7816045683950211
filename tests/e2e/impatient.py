"""A pytest plugin for runs on a broken lab: it waits for no condition longer than `LONGEST_WAIT_S`.

What the sabotage prevents never comes, however long the check waits for it. On a healthy lab the check gets
what it waits for sooner, and test_whole_suite.py runs every check with its own timeouts.
"""

from __future__ import annotations

import pytest

from mptcp_lab.probe import waiting
from mptcp_lab.suite.direct import full_size

LONGEST_WAIT_S = 5.0
#: Most of these waits are in vain, and each reading of a condition costs processor time on both ends.
LONGEST_PAUSE_S = 0.4


def pytest_configure(config: pytest.Config) -> None:
    patient = waiting.patient
    waiting.patient = lambda seconds: patient(min(seconds, LONGEST_WAIT_S))
    waiting.LONGEST_PAUSE = LONGEST_PAUSE_S
    full_size.ECHO_TIMEOUT_S = LONGEST_WAIT_S
