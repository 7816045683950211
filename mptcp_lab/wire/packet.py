"""Packets to TCP segments and back: Ethernet, Linux cooked v1/v2 or raw IP; IPv4 or IPv6; TCP options."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

from mptcp_lab.wire.codec import Option, decode_option, encode_options, split_options
from mptcp_lab.wire.keys import internet_checksum
from mptcp_lab.wire.options import MalformedOption

FIN, SYN, RST, PSH, ACK, URG = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20

NULL, ETHERNET, RAW, LOOP, SLL, IPV4, IPV6, SLL2 = 0, 1, 101, 108, 113, 228, 229, 276
"""Link types of pcap (LINKTYPE_...)."""

_TCP = 6
_VLAN_TAGS = (0x8100, 0x88A8)
_V6_EXTENSIONS = (0, 43, 60)  # hop-by-hop, routing, destination options: length in the second octet
_V6_FRAGMENT = 44

IpAddress = IPv4Address | IPv6Address
_address = lru_cache(maxsize=4096)(ip_address)


class UnsupportedLink(ValueError):
    """A link type this module does not read."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A TCP segment as seen once. `number` counts packets from 1, `time_ns` is since the epoch.

    `seq`, `ack` and `window` are as on the wire (no scaling). `payload` holds the octets at hand and
    `payload_length` what the IP header says: captures of headers have less. `malformed`: what is no option.
    """

    src: IpAddress
    sport: int
    dst: IpAddress
    dport: int
    seq: int
    ack: int
    flags: int
    window: int
    options: tuple[Option, ...] = ()
    payload: bytes = b""
    payload_length: int = 0
    number: int = 0
    time_ns: int = 0
    malformed: tuple[MalformedOption, ...] = ()


def _options(octets: bytes) -> tuple[tuple[Option, ...], tuple[MalformedOption, ...]]:
    """What decodes, and what does not: one bad option does not hide the others."""
    good: list[Option] = []
    bad: list[MalformedOption] = []
    try:
        for offset, each in split_options(octets):
            try:
                good.append(decode_option(each, offset))
            except MalformedOption as error:
                bad.append(error)
    except MalformedOption as error:
        bad.append(error)
    return tuple(good), tuple(bad)


def ip_start(link_type: int, frame: bytes) -> int | None:
    """Where the IP header starts, or None if there is none. UnsupportedLink for a link type unknown here."""
    if link_type == ETHERNET:
        at = 12
        while int.from_bytes(frame[at : at + 2], "big") in _VLAN_TAGS:
            at += 4
        return _if_ip(frame, at)
    if link_type == SLL2:
        return 20 if frame[:2] in (b"\x08\x00", b"\x86\xdd") else None
    if link_type == SLL:
        return _if_ip(frame, 14)
    if link_type in (RAW, IPV4, IPV6, 12, 14):  # 12 and 14: what some systems wrote for RAW
        return 0
    if link_type in (NULL, LOOP):
        return 4
    raise UnsupportedLink(f"link type {link_type}")


def _if_ip(frame: bytes, at: int) -> int | None:
    return at + 2 if frame[at : at + 2] in (b"\x08\x00", b"\x86\xdd") else None


@dataclass(frozen=True, slots=True)
class _Ip:
    src: IpAddress
    dst: IpAddress
    tcp_start: int
    end: int


def _ipv4(frame: bytes, at: int, wire_length: int) -> _Ip | None:
    if (
        len(frame) < at + 20
        or frame[at + 9] != _TCP
        or int.from_bytes(frame[at + 6 : at + 8], "big") & 0x1FFF
    ):
        return None
    total = int.from_bytes(frame[at + 2 : at + 4], "big")
    # Length 0: a super-packet that segmentation offload had not filled in when it was captured.
    end = at + total if total else wire_length
    src, dst = _address(frame[at + 12 : at + 16]), _address(frame[at + 16 : at + 20])
    return _Ip(src, dst, at + (frame[at] & 0x0F) * 4, end)


def _ipv6(frame: bytes, at: int, wire_length: int) -> _Ip | None:
    if len(frame) < at + 40:
        return None
    total = int.from_bytes(frame[at + 4 : at + 6], "big")
    end = at + 40 + total if total else wire_length
    src, dst = _address(frame[at + 8 : at + 24]), _address(frame[at + 24 : at + 40])
    following, at = frame[at + 6], at + 40
    while following != _TCP:
        if len(frame) < at + 8:
            return None
        if following in _V6_EXTENSIONS:
            following, at = frame[at], at + 8 + frame[at + 1] * 8
        elif following == _V6_FRAGMENT and not int.from_bytes(frame[at + 2 : at + 4], "big") & 0xFFF8:
            following, at = frame[at], at + 8
        else:
            return None
    return _Ip(src, dst, at, end)


def parse_segment(
    link_type: int, frame: bytes, wire_length: int | None = None, number: int = 0, time_ns: int = 0
) -> Segment | None:
    """The TCP segment in a captured frame; None if there is none or its header was not captured in full.

    `wire_length` is the frame's length on the wire, where that differs from what was captured.
    """
    start = ip_start(link_type, frame)
    if start is None or len(frame) <= start:
        return None
    version = frame[start] >> 4
    if version not in (4, 6):
        return None
    ip = (_ipv4 if version == 4 else _ipv6)(frame, start, wire_length or len(frame))
    if ip is None or len(frame) < ip.tcp_start + 20:
        return None
    at = ip.tcp_start
    sport, dport, seq, ack, offset, flags, window = struct.unpack_from(">HHIIBBH", frame, at)
    payload_start = at + (offset >> 4) * 4
    if not at + 20 <= payload_start <= min(len(frame), ip.end):
        return None
    options, malformed = _options(frame[at + 20 : payload_start])
    return Segment(
        ip.src,
        sport,
        ip.dst,
        dport,
        seq,
        ack,
        flags,
        window,
        options,
        frame[payload_start : ip.end],
        ip.end - payload_start,
        number,
        time_ns,
        malformed,
    )


def build_packet(segment: Segment) -> bytes:
    """The segment as an IP packet, lengths and checksums right: what a raw socket or link type RAW carries.

    ValueError if addresses are of two families or the options need more than 40 octets.
    """
    if segment.src.version != segment.dst.version:
        raise ValueError(f"{segment.src} and {segment.dst} are of different IP versions")
    options = encode_options(segment.options)
    head = struct.pack(
        ">HHIIBBHHH",
        segment.sport,
        segment.dport,
        segment.seq,
        segment.ack,
        (20 + len(options)) // 4 << 4,
        segment.flags,
        segment.window,
        0,
        0,
    )
    tcp = head + options + segment.payload
    source, target = segment.src.packed, segment.dst.packed
    checksum = internet_checksum(source + target + struct.pack(">IHH", len(tcp), 0, _TCP) + tcp)
    tcp = tcp[:16] + struct.pack(">H", checksum) + tcp[18:]
    if segment.src.version == 6:
        return struct.pack(">IHBB", 6 << 28, len(tcp), _TCP, 64) + source + target + tcp
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0x4000, 64, _TCP, 0) + source + target
    return ip[:10] + struct.pack(">H", internet_checksum(ip)) + ip[12:] + tcp
