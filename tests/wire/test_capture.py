"""Files and packets: every link type, cut and broken files, packets of our own."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mptcp_lab.wire import (
    CaptureError,
    CaptureFile,
    MalformedOption,
    MpCapable,
    MpPrio,
    Segment,
    TcpOption,
    analyse,
    build_packet,
    parse_segment,
)
from mptcp_lab.wire.packet import ETHERNET, IPV4, NULL, RAW, SLL, SLL2, SYN
from tests.wire.conftest import CAPTURES, ODD, named, segments_of
from tests.wire.tshark import fields

SYN_SEGMENT = Segment(
    ip_address("198.18.1.1"),
    4000,
    ip_address("198.18.1.2"),
    7000,
    1,
    0,
    SYN,
    64240,
    (TcpOption(2, b"\x05\xb4"), MpCapable()),
)


def pcap(link_type: int, *frames: bytes, order: str = "<", magic: int = 0xA1B2C3D4) -> bytes:
    head = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, link_type)
    records = (struct.pack(order + "IIII", 1, 2, len(each), len(each)) + each for each in frames)
    return head + b"".join(records)


def read(path: Path, data: bytes) -> list[Segment]:
    path.write_bytes(data)
    return list(CaptureFile(path))


PACKET = build_packet(SYN_SEGMENT)
FRAMES: dict[str, tuple[int, bytes]] = {
    "raw": (RAW, PACKET),
    "ipv4": (IPV4, PACKET),
    "null": (NULL, b"\x02\x00\x00\x00" + PACKET),
    "ethernet": (ETHERNET, bytes(12) + b"\x08\x00" + PACKET),
    "vlan": (ETHERNET, bytes(12) + b"\x81\x00\x00\x05\x08\x00" + PACKET),
    "double vlan": (ETHERNET, bytes(12) + b"\x88\xa8\x00\x05\x81\x00\x00\x06\x08\x00" + PACKET),
    "padded ethernet": (ETHERNET, bytes(12) + b"\x08\x00" + PACKET + bytes(6)),
    "sll": (SLL, bytes(14) + b"\x08\x00" + PACKET),
    "sll2": (SLL2, b"\x08\x00" + bytes(18) + PACKET),
}


@pytest.mark.parametrize("form", FRAMES)
@pytest.mark.parametrize(("order", "magic"), [("<", 0xA1B2C3D4), (">", 0xA1B2C3D4), ("<", 0xA1B23C4D)])
def test_link_types_and_byte_orders(form: str, order: str, magic: int, tmp_path: Path) -> None:
    link_type, frame = FRAMES[form]
    (segment,) = read(tmp_path / "x.pcap", pcap(link_type, frame, order=order, magic=magic))
    time_ns = 1_000_000_002 if magic == 0xA1B23C4D else 1_000_002_000
    assert segment == replace(SYN_SEGMENT, number=1, time_ns=time_ns)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 255),
    st.binary(max_size=100),
    st.sampled_from(["192.0.2.1", "2001:db8::1"]),
)
def test_what_is_built_parses_to_the_same(seq: int, flags: int, payload: bytes, address: str) -> None:
    ends = ip_address(address), 1, ip_address(address) + 1, 2
    segment = Segment(*ends, seq, 7, flags, 9, (MpPrio(True), TcpOption(0)), payload, len(payload))
    assert parse_segment(RAW, build_packet(segment)) == segment


@pytest.mark.parametrize("address", ["198.18.1.1", "2001:db8::1"])
def test_checksums_of_built_packets_are_right_for_tshark(address: str, tmp_path: Path) -> None:
    ends = {"src": ip_address(address), "dst": ip_address(address) + 1}
    path = tmp_path / "x.pcap"
    path.write_bytes(pcap(RAW, build_packet(replace(SYN_SEGMENT, **ends, payload=b"odd"))))
    (row,) = fields(path)
    assert (row["tcp.checksum.status"], row["tcp.len"]) == (["1"], ["3"])


def test_headers_cut_off_are_no_segments() -> None:
    for size in range(len(PACKET)):
        assert parse_segment(RAW, PACKET[:size], len(PACKET)) is None


def test_fragments_and_other_protocols_are_no_segments() -> None:
    assert parse_segment(RAW, PACKET[:6] + b"\x00\x01" + PACKET[8:]) is None
    assert parse_segment(RAW, PACKET[:9] + b"\x11" + PACKET[10:]) is None


def test_extension_headers_of_ipv6() -> None:
    source, target = ip_address("2001:db8::1"), ip_address("2001:db8::2")
    packet = build_packet(replace(SYN_SEGMENT, src=source, dst=target))
    options = (
        b"\x3c\x00" + bytes(6) + b"\x06\x00" + bytes(6)
    )  # hop-by-hop, then destination options, then TCP
    length = struct.pack(">H", len(packet) - 40 + len(options))
    extended = packet[:4] + length + b"\x00" + packet[7:40] + options + packet[40:]
    assert parse_segment(RAW, extended) == parse_segment(RAW, packet)


def test_a_super_packet_without_length_is_as_long_as_on_the_wire() -> None:
    packet = build_packet(replace(SYN_SEGMENT, payload=b"x" * 500))
    unfilled = packet[:2] + b"\0\0" + packet[4:]
    segment = parse_segment(RAW, unfilled, wire_length=len(packet))
    assert segment is not None
    assert segment.payload_length == 500


def test_a_bad_option_does_not_hide_the_others() -> None:
    bad = replace(SYN_SEGMENT, options=(TcpOption(30, b"\x90\x00"), MpCapable()))
    segment = parse_segment(RAW, build_packet(bad))
    assert segment is not None
    assert segment.options == (MpCapable(),)
    assert [type(each) for each in segment.malformed] == [MalformedOption]
    assert list(analyse([segment]).malformed) == [(0, str(segment.malformed[0]))]


@pytest.mark.parametrize("name", ["handshake", "half_close"])
def test_a_file_cut_anywhere_gives_what_is_whole(name: str, tmp_path: Path) -> None:
    """At every length: the packets up to there, or one error; `is_cut` unless the cut is between packets."""
    whole = named(name)
    data, all_segments = whole.read_bytes(), segments_of(whole)
    path = tmp_path / whole.name
    cuts = 0
    for size in range(0, len(data), 3):
        path.write_bytes(data[:size])
        try:
            capture = CaptureFile(path)
            segments = tuple(capture)
        except CaptureError as error:
            assert str(path) in str(error)
            continue
        last = segments[-1]
        assert segments[:-1] == all_segments[: len(segments) - 1]
        assert last.options == all_segments[len(segments) - 1].options
        cuts += capture.is_cut
        analyse(segments)
    assert cuts > 100


def test_random_octets_in_a_capture_give_segments_or_one_error(tmp_path: Path) -> None:
    data = bytearray(named("handshake").read_bytes())
    chance = random.Random(8684)
    path = tmp_path / "x.pcapng"
    for _ in range(300):
        broken = bytearray(data)
        for _ in range(5):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        path.write_bytes(broken)
        try:
            analyse(CaptureFile(path))
        except CaptureError as error:
            assert str(path) in str(error)


ERRORS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "No such file"),
    "directory": (lambda path: path.mkdir(), "directory"),
    "empty": (lambda path: path.touch(), "is empty"),
    "text": (lambda path: path.write_text("no capture at all, but text"), "no pcap or pcapng"),
    "short": (lambda path: path.write_bytes(b"\xd4\xc3"), "no pcap or pcapng"),
    "no packets": (lambda path: path.write_bytes(pcap(RAW)), "no TCP header in its 0 packets"),
    "not tcp": (
        lambda path: path.write_bytes(pcap(RAW, PACKET[:9] + b"\x11" + PACKET[10:])),
        "no TCP header in its 1 packet;",
    ),
    "link type": (lambda path: path.write_bytes(pcap(147, PACKET)), "link type 147"),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_one_error_says_what_where_and_what_next(kind: str, tmp_path: Path) -> None:
    make, what = ERRORS[kind]
    path = tmp_path / "file.pcap"
    make(path)
    with pytest.raises(CaptureError, match=what) as raised:
        list(CaptureFile(path))
    assert str(raised.value).startswith(f"{path}: ")
    assert "; " in str(raised.value)
    assert "\n" not in str(raised.value)


def test_interfaces_written_in_turn_are_noticed() -> None:
    """As dumpcap wrote it: the second interface's packets at the end."""
    segments = list(CaptureFile(ODD / "disorder.pcapng"))
    assert analyse(segments).disorder == 25
    assert analyse(sorted(segments, key=lambda each: each.time_ns)).disorder is None
    assert all(analyse(CaptureFile(each)).disorder is None for each in CAPTURES.glob("*.pcap*"))
