"""When a client that suspected a black hole asked for MPTCP again, read from the SYNs that it sent."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from mptcp_lab.suite.gateway.blackhole import after_suspicion, find_growth
from mptcp_lab.wire import MpCapable, MpJoinSyn, MptcpOption
from mptcp_lab.wire.packet import ACK, SYN, Segment

CLIENT, SERVER = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")


def syn(sport: int, seconds: float, *options: MptcpOption) -> Segment:
    return Segment(
        CLIENT, sport, SERVER, 7000, 1, 0, SYN, 65535, options=options, time_ns=round(seconds * 1e9)
    )


def answer(sport: int, seconds: float) -> Segment:
    return Segment(SERVER, 7000, CLIENT, sport, 1, 2, SYN | ACK, 65535, time_ns=round(seconds * 1e9))


SUSPICION = [syn(40000, 0, MpCapable()), syn(40000, 1.0), answer(40000, 1.1)]


def test_a_join_is_no_plain_connection() -> None:
    """A client's joins follow its SYN with MP_CAPABLE at once, and are MPTCP too."""
    packets = [
        *SUSPICION,
        syn(40001, 1.6),
        syn(40002, 2.6, MpCapable()),
        syn(40003, 2.7, MpJoinSyn(address_id=2, token=1, nonce=1)),
    ]
    plain, asked = after_suspicion(packets)
    assert plain == pytest.approx((0.5,))
    assert asked == pytest.approx((1.5,))


def test_a_plain_connection_after_mptcp_is_kept() -> None:
    plain, _ = after_suspicion([*SUSPICION, syn(40001, 2.6, MpCapable()), syn(40002, 2.7)])
    assert plain == pytest.approx((1.6,))


@pytest.mark.parametrize("kernel", ["6.12.43+deb13-amd64", "6.17.1"])
def test_a_time_that_has_doubled_is_known_of_kernels_before_the_repair(kernel: str) -> None:
    correction = find_growth((0.2, 1.6), 1, kernel)
    assert correction is not None
    assert correction.claim == "GATEWAY-6"


def test_a_stable_release_with_the_repair_is_held_to_the_claim() -> None:
    """Linux 6.12.117 has the repair: MPTCP is back in time, so nothing is excused."""
    assert find_growth((0.2, 0.9), 1, "6.12.117+deb13-amd64") is None


def test_a_time_that_has_doubled_is_unknown_of_any_other_kernel() -> None:
    assert find_growth((0.2, 1.6), 1, "6.18.44") is None
