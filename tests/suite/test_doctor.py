"""The doctor on the counters of each situation, as the kernel counted them."""

import pytest

from mptcp_lab.doctor.counters import CLIENT_ERRORS, SERVER_ERRORS, diagnose
from mptcp_lab.probe import Counters
from tests.probe import kernels

JOINED_A = {"MPCapableSYNTX": 1, "MPCapableSYNACKRX": 1, "MPJoinSynTx": 1, "MPJoinSynAckRx": 1}
JOINED_B = {"MPCapableSYNRX": 1, "MPCapableACKRX": 1, "MPJoinSynRx": 1, "MPJoinAckRx": 1}
SITUATIONS = {
    "healthy": (JOINED_A, JOINED_B, "healthy"),
    "no route on NIC 2": (
        {**JOINED_A, "MPJoinSynAckRx": 0},
        {"MPCapableSYNRX": 1, "MPCapableACKRX": 1},
        "joins do not arrive",
    ),
    "server limit 0": (
        JOINED_A,
        {**JOINED_B, "MPJoinAckRx": 0, "MPJoinRejected": 1},
        "joins refused by the server",
    ),
    "C flag": ({"MPCapableSYNTX": 1, "MPCapableSYNACKRX": 1}, {"MPCapableSYNRX": 1}, "no join was tried"),
    "SYN stripped": ({"MPCapableSYNTX": 1, "MPCapableFallbackSYNACK": 1}, {}, "options stripped from SYNs"),
    "SYN/ACK stripped": (
        {"MPCapableSYNTX": 1, "MPCapableFallbackSYNACK": 1},
        {"MPCapableSYNRX": 1, "MPCapableFallbackACK": 1},
        "options stripped from SYN/ACKs",
    ),
    "SYN dropped": (
        {"MPCapableSYNTX": 1, "MPCapableSYNTXDrop": 1, "Blackhole": 1},
        {},
        "SYNs with options dropped",
    ),
    "address gone": (
        {"MPCapableSYNTX": 1, "MPJoinSynTx": 2, "MPJoinSynAckRx": 2, "MPJoinSynTxBindErr": 3},
        {"MPCapableSYNRX": 1, "MPJoinSynRx": 2, "MPJoinAckRx": 2},
        "joins could not be bound to their address",
    ),
    "no route for joins": (
        {**JOINED_A, "MPJoinSynTxConnectErr": 1},
        JOINED_B,
        "joins have no route",
    ),
    "another host behind the address": (
        {**JOINED_A, "MPJoinSynAckRx": 0},
        {"MPCapableSYNRX": 1, "MPJoinSynRx": 1, "MPJoinNoTokenFound": 1},
        "joins came to a host without the connection",
    ),
    "third packets dropped": (
        {**JOINED_A, "MPJoinSynTx": 3, "MPJoinSynAckRx": 3},
        {**JOINED_B, "MPJoinSynRx": 3, "MPJoinAckRx": 0},
        "third packets of joins are lost",
    ),
    "one of two paths dropped": (
        {**JOINED_A, "MPJoinSynTx": 2},
        JOINED_B,
        "some joins are not answered",
    ),
    "after that": ({"MPCapableSYNTXDisabled": 1}, {}, "MPTCP is off after a blackhole"),
}


def counted(counters: dict[str, int]) -> Counters:
    return kernels.counted("6.18", **counters)


@pytest.mark.parametrize(("client", "server", "cause"), SITUATIONS.values(), ids=SITUATIONS.keys())
def test_cause(client: dict[str, int], server: dict[str, int], cause: str) -> None:
    assert diagnose(counted(client), counted(server)).cause == cause


@pytest.mark.parametrize("name", CLIENT_ERRORS)
def test_a_client_whose_joins_failed_is_not_healthy(name: str) -> None:
    assert diagnose(counted({**JOINED_A, name: 1}), counted(JOINED_B)).cause != "healthy"


@pytest.mark.parametrize("name", SERVER_ERRORS)
def test_a_server_that_counted_a_failed_join_is_not_healthy(name: str) -> None:
    assert diagnose(counted(JOINED_A), counted({**JOINED_B, name: 1})).cause != "healthy"


def test_a_server_without_mptcp_is_no_middlebox() -> None:
    client = counted({"MPCapableSYNTX": 1, "MPCapableFallbackSYNACK": 1})
    assert diagnose(client, counted({}), server_speaks=False).cause == "server without MPTCP"
