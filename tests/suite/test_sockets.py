"""Subflows count when both ends have them."""

import pytest

from mptcp_lab.probe.facts import Subflow
from mptcp_lab.suite.sockets import TcpSocket, at_both_ends, parse_sockets

#: What `ss -Htna` printed for port 7000 on a server while the third packets of two joins were dropped.
PRINTED = """\
LISTEN   0      1024        198.18.1.31:7000       0.0.0.0:*
ESTAB    0      0           198.18.1.31:7000   198.18.1.10:44010
SYN-RECV 0      0           198.18.2.31:7000   198.18.1.10:44010
SYN-RECV 0      0      [2001:db8:1::31]:7000 [2001:db8:2::10]:44010
ESTAB    0      0     [::ffff:198.18.1.31]:7000 [::ffff:198.18.2.10]:44010
ESTAB    0      0      [fe80::1]%eth1:7000 [fe80::2%eth1]:5
"""
UP, SYN_SENT = {"state": 1}, {"state": 2}


def subflow(local: str, remote: str, tcp: dict[str, int] = UP, lport: int = 44010) -> Subflow:
    return Subflow(local, lport, remote, 7000, 0, tcp)


def test_states_and_addresses_are_read() -> None:
    assert [(each.state, each.local, each.remote) for each in parse_sockets(PRINTED)] == [
        ("ESTAB", "198.18.1.31", "198.18.1.10"),
        ("SYN-RECV", "198.18.2.31", "198.18.1.10"),
        ("SYN-RECV", "2001:db8:1::31", "2001:db8:2::10"),
        ("ESTAB", "198.18.1.31", "198.18.2.10"),
        ("ESTAB", "fe80::1", "fe80::2"),
    ]


def test_what_the_server_has_in_syn_recv_does_not_count() -> None:
    mine = [subflow("198.18.1.10", "198.18.1.31"), subflow("198.18.1.10", "198.18.2.31")]
    assert at_both_ends(mine, parse_sockets(PRINTED)) == {("198.18.1.10", "198.18.1.31")}


@pytest.mark.parametrize(
    "mine",
    [
        subflow("198.18.1.10", "198.18.1.31", SYN_SENT),
        subflow("198.18.1.10", "198.18.1.31", lport=44011),
        subflow("198.18.3.10", "198.18.1.31"),
    ],
)
def test_what_the_client_has_not_established_does_not_count(mine: Subflow) -> None:
    assert at_both_ends([mine], parse_sockets(PRINTED)) == set()


def test_a_kernel_that_tells_no_state_is_checked_at_the_other_end() -> None:
    mine = [subflow("198.18.1.10", "198.18.1.31", {}), subflow("198.18.1.10", "198.18.2.31", {})]
    assert at_both_ends(mine, parse_sockets(PRINTED)) == {("198.18.1.10", "198.18.1.31")}


def test_behind_a_translation_as_many_count_as_the_server_has_of_an_address() -> None:
    mine = [subflow(f"198.18.{n}.10", "198.18.2.22") for n in (1, 2)]
    theirs = [TcpSocket("ESTAB", "198.18.10.31", 7000, "198.18.10.22", 9)]
    assert len(at_both_ends(mine, theirs, lambda _: "198.18.10.22")) == 1
    assert len(at_both_ends(mine, theirs * 2, lambda _: "198.18.10.22")) == 2
    assert not at_both_ends(mine, theirs, lambda _: "198.18.10.21")
