"""An ADD_ADDR of IPv6 with port: sent, dropped for want of space, or lost."""

import pytest

from mptcp_lab.errors import Unsupported
from mptcp_lab.probe.absent import Absent
from mptcp_lab.suite.rfc8684.option_space import DROPS_TIMESTAMPS, find_loss

OLDER: dict[str, str] = {}
OFF, ON = {DROPS_TIMESTAMPS: "0"}, {DROPS_TIMESTAMPS: "1"}


@pytest.mark.parametrize("sysctls", [OLDER, OFF, ON])
def test_one_that_is_sent_is_right_on_every_kernel(sysctls: dict[str, str]) -> None:
    assert find_loss(1, 0, sysctls) == ""


@pytest.mark.parametrize("sysctls", [OLDER, OFF])
def test_one_may_be_dropped_where_timestamps_stay(sysctls: dict[str, str]) -> None:
    assert find_loss(0, 1, sysctls) == ""
    assert "neither sent nor dropped" in find_loss(0, 0, sysctls)


@pytest.mark.parametrize("dropped", [0, 1])
def test_none_may_be_dropped_where_timestamps_give_way(dropped: int) -> None:
    assert DROPS_TIMESTAMPS in find_loss(0, dropped, ON)


def test_a_kernel_without_the_counter_leaves_it_open() -> None:
    absent = Absent("counter AddAddrTxDrop", "server1", "6.1")
    assert find_loss(1, absent, OLDER) == ""  # type: ignore[arg-type]
    with pytest.raises(Unsupported):
        find_loss(0, absent, OLDER)  # type: ignore[arg-type]
