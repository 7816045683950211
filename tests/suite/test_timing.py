"""A bound of time decides on a normal machine only."""

import pytest

from mptcp_lab import patience
from mptcp_lab.errors import Unsupported
from mptcp_lab.suite.timing import check_time


def test_bound_that_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound that holds is fine on any machine."""
    for factor in ("1", "12"):
        monkeypatch.setenv(patience.ENVIRONMENT, factor)
        check_time(True, "too late")


def test_bound_on_a_normal_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no wait is multiplied, a bound that does not hold is a failure."""
    monkeypatch.setenv(patience.ENVIRONMENT, "1")
    with pytest.raises(AssertionError, match="too late"):
        check_time(False, "too late")


def test_bound_on_a_slow_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where waits are multiplied it judges nothing, and the factor is the reason."""
    monkeypatch.setenv(patience.ENVIRONMENT, "12")
    with pytest.raises(Unsupported, match="12 times slower than a normal one: too late"):
        check_time(False, "too late")
