"""The summary of captured packets: the doctor's connection among others, with its joins and resets."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

from mptcp_lab.doctor.summary import Ends, initial_numbers, summarise
from mptcp_lab.wire import keys
from mptcp_lab.wire.options.addresses import AddAddr
from mptcp_lab.wire.options.base import MptcpOption
from mptcp_lab.wire.options.ending import TcpRst
from mptcp_lab.wire.options.handshake import MpCapable
from mptcp_lab.wire.options.joins import MpJoinAck, MpJoinSyn, MpJoinSynAck
from mptcp_lab.wire.packet import ACK, RST, SYN, Segment

CLIENT_KEY, SERVER_KEY = 0x1111111111111111, 0x2222222222222222
ENDS = Ends("192.0.2.1", 40000, "192.0.2.2", 7000)
A, B = ("192.0.2.1", 40000), ("192.0.2.2", 7000)
C = ("198.51.100.1", 40001)


def packet(
    source: tuple[str, int], destination: tuple[str, int], flags: int, *options: MptcpOption, seq: int = 1
) -> Segment:
    return Segment(
        ip_address(source[0]),
        source[1],
        ip_address(destination[0]),
        destination[1],
        seq,
        0,
        flags,
        0,
        options,
    )


FIRST = [
    packet(A, B, SYN, MpCapable(), seq=100),
    packet(B, A, SYN | ACK, MpCapable(SERVER_KEY, flags=0x21)),
    packet(A, B, ACK, MpCapable(CLIENT_KEY, SERVER_KEY)),
    packet(B, A, ACK, AddAddr(2, ip_address("198.51.100.2"), hmac=bytes(8))),
]
JOIN = [
    packet(C, B, SYN, MpJoinSyn(3, keys.token(SERVER_KEY), 7), seq=200),
    packet(B, C, SYN | ACK, MpJoinSynAck(0, bytes(8), 8)),
    packet(C, B, ACK, MpJoinAck(bytes(20))),
    packet(B, C, ACK),
]
OTHER = [
    packet(("203.0.113.7", 5000), B, SYN, MpCapable(), seq=300),
    packet(("203.0.113.8", 5001), B, SYN, MpJoinSyn(1, 99, 7), seq=400),
]


def captured(*packets: Segment) -> list[Segment]:
    return [replace(each, time_ns=number) for number, each in enumerate(packets)]


def test_the_connection_is_found_among_those_of_others() -> None:
    found = summarise({"eth1": captured(*OTHER, *FIRST), "eth2": captured(*JOIN)}, ENDS)
    assert found.packets == len(FIRST) + len(JOIN)
    shake = found.handshake
    assert (shake.syns, shake.syn_option, shake.synack_option, shake.ack_option) == (1, True, True, True)
    assert (shake.syn_version, shake.denies_join, shake.is_mirrored) == (1, True, False)
    (join,) = found.joins
    assert (join.client, join.server, join.devices) == ("198.51.100.1", "192.0.2.2", {"eth2"})
    assert (join.syns, join.synacks, join.ack_option, join.fourth, join.address_id) == (1, 1, True, 1, 3)
    assert [(each.sender, each.address, each.is_echo) for each in found.announcements] == [
        ("server", "198.51.100.2", False)
    ]


def test_a_stripped_option_is_seen_at_the_other_end_by_the_sequence_number() -> None:
    numbers = initial_numbers({"eth1": captured(*FIRST, *JOIN)}, ENDS)
    assert numbers == {100, 200}
    bare = [replace(each, options=()) for each in (*FIRST[:1], *JOIN[:1])]
    found = summarise({"eth0": captured(*bare)}, ENDS, 0, numbers)
    assert found.handshake.syn_option is False
    assert [(each.syns, each.syn_option, each.synack_option) for each in found.joins] == [(1, False, None)]


def test_a_connection_with_translated_addresses_is_found_by_its_sequence_number() -> None:
    router = ("203.0.113.1", 61000)
    translated = [
        packet(router, B, SYN, MpCapable(), seq=100),
        packet(B, router, SYN | ACK, MpCapable(SERVER_KEY)),
    ]
    assert summarise({"eth0": captured(*translated)}, ENDS).handshake.syns == 0
    assert summarise({"eth0": captured(*translated)}, ENDS, 0, {100}).handshake.synack_option is True


def test_an_option_that_comes_back_unchanged_is_mirrored() -> None:
    mirror = [FIRST[0], packet(B, A, SYN | ACK, MpCapable())]
    assert summarise({"eth0": captured(*mirror)}, ENDS).handshake.is_mirrored


def test_a_retransmitted_syn_is_counted_and_a_plain_one_too() -> None:
    tries = [FIRST[0], FIRST[0], replace(FIRST[0], options=())]
    shake = summarise({"eth0": captured(*tries)}, ENDS).handshake
    assert (shake.syns, shake.plain_syns, shake.synack_option) == (3, 1, None)


def test_a_refused_join_has_the_reset_and_its_reason() -> None:
    refusal = packet(B, C, RST | ACK, TcpRst(3))
    (join,) = summarise({"eth1": captured(*FIRST, JOIN[0], refusal)}, ENDS).joins
    assert [(each.sender, each.reason, each.is_transient) for each in join.resets] == [("server", 3, False)]
