"""Captures in a bundle: keys are zeros, payload is gone, addresses are replaced, checksums stay right."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from mptcp_lab.doctor.bundle.addresses import AddressMap
from mptcp_lab.doctor.bundle.captures import CaptureRefused, read_blocks, rewrite_capture, rewrite_frame
from mptcp_lab.paths import ROOT
from mptcp_lab.wire import AddAddr, CaptureFile, MpCapable, MpFastclose, parse_segment
from mptcp_lab.wire.keys import internet_checksum
from mptcp_lab.wire.packet import RAW, Segment
from tests.doctor.bundles import (
    PAYLOAD,
    RECEIVER_KEY,
    SENDER_KEY,
    V4,
    V6,
    a_frame,
    frames,
    pcapng,
)

MAP = AddressMap(key=b"k")


def tcp_sum(frame: bytes, payload: bytes = b"") -> int:
    """Return the checksum over pseudo-header, header and payload: 0 where the packet's is right."""
    is_v4 = frame[0] >> 4 == 4
    tcp = frame[20:] if is_v4 else frame[40:]
    pair = frame[12:20] if is_v4 else frame[8:40]
    length = len(tcp) + len(payload)
    return internet_checksum(pair + struct.pack(">HH", 6, length) + tcp + payload)


def segments(capture: bytes, tmp_path: Path) -> list[Segment]:
    path = tmp_path / "c.pcapng"
    path.write_bytes(capture)
    return list(CaptureFile(path))


@pytest.mark.parametrize("addresses", [None, MAP], ids=["open", "concealed"])
def test_checksums_stay_right(addresses: AddressMap | None) -> None:
    for frame in frames():
        payload = PAYLOAD if frame.endswith(PAYLOAD) else b""
        assert tcp_sum(frame) == 0
        rewritten = rewrite_frame(RAW, frame, addresses)
        assert rewritten is not None
        assert len(rewritten) == len(frame) - len(payload)
        assert tcp_sum(rewritten, payload) == 0
        if rewritten[0] >> 4 == 4:
            assert internet_checksum(rewritten[:20]) == 0


def test_a_wrong_checksum_stays_wrong() -> None:
    frame = bytearray(a_frame(MpCapable(sender_key=SENDER_KEY)))
    frame[36] ^= 0x55
    before = tcp_sum(bytes(frame))
    rewritten = rewrite_frame(RAW, bytes(frame), MAP)
    assert rewritten is not None
    assert tcp_sum(rewritten) == before != 0


def test_no_key_and_no_payload_is_left(tmp_path: Path) -> None:
    capture, left_out = rewrite_capture(pcapng([*frames(), b"\x45" + bytes(40)]))
    assert left_out == 1
    for octets in (PAYLOAD, *(struct.pack(">Q", key) for key in (SENDER_KEY, RECEIVER_KEY)), b"probe on"):
        assert octets not in capture
    found = segments(capture, tmp_path)
    assert [each.payload_length for each in found] == [0, 0, len(PAYLOAD), 0, 0, 0]
    capable = [option for each in found for option in each.options if isinstance(option, MpCapable)]
    assert [each.sender_key for each in capable] == [None, 0, 0]
    assert capable[2].receiver_key == 0 and capable[2].data_length == len(PAYLOAD)
    (fastclose,) = [option for each in found for option in each.options if isinstance(option, MpFastclose)]
    assert fastclose.receiver_key == 0
    assert b"eth1" in capture


def test_addresses_are_replaced_consistently_in_headers_and_options(tmp_path: Path) -> None:
    addresses = AddressMap()
    found = segments(rewrite_capture(pcapng(frames()), addresses)[0], tmp_path)
    assert {(each.src, each.dst) for each in found} == {
        tuple(map(addresses.address, pair)) for pair in (V4, V6)
    }
    announced = [option.address for each in found for option in each.options if isinstance(option, AddAddr)]
    assert announced[1] == addresses.address(V6[1])
    assert str(addresses.address(V4[0])).rsplit(".", 1)[0] == str(announced[0]).rsplit(".", 1)[0]  # one /24


@pytest.mark.parametrize("name", ["handshake", "add_addr", "backup"])
def test_captures_of_real_kernels_are_read_as_before_but_for_keys(name: str, tmp_path: Path) -> None:
    original = ROOT / "tests" / "wire" / "captures" / f"{name}.pcapng"
    capture, left_out = rewrite_capture(original.read_bytes())
    before, after = list(CaptureFile(original)), segments(capture, tmp_path)
    assert (left_out, len(after)) == (0, len(before))
    for one, other in zip(before, after, strict=True):
        assert (one.src, one.sport, one.seq, one.ack, one.flags) == (
            *(other.src, other.sport, other.seq, other.ack, other.flags),
        )
        assert one.time_ns == other.time_ns
        assert list(map(type, one.options)) == list(map(type, other.options))
        assert other.payload == b""


@pytest.mark.parametrize("octets", [b"", b"junk of any kind", pcapng(frames())[:-5]])
def test_what_is_no_capture_is_refused(octets: bytes) -> None:
    with pytest.raises(CaptureRefused):
        list(read_blocks(octets))


def test_options_that_are_none_become_zeros() -> None:
    frame = bytearray(a_frame(MpCapable(sender_key=SENDER_KEY)))
    frame[41] = 60  # the option's length points past the header
    rewritten = rewrite_frame(RAW, bytes(frame), None)
    assert rewritten is not None and struct.pack(">Q", SENDER_KEY) not in rewritten
    assert parse_segment(RAW, rewritten) is not None
