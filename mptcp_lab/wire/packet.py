"""Decode captured frames into TCP segments, and encode segments as IP packets.

Frames: Ethernet, Linux cooked v1 and v2, BSD loopback or raw IP, with IPv4 or IPv6.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from types import MappingProxyType

from mptcp_lab.wire.codec import Option, decode_option, encode_options, split_options
from mptcp_lab.wire.keys import internet_checksum
from mptcp_lab.wire.options.base import MalformedOption

FIN, SYN, RST, PSH, ACK, URG = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20

#: Link types of pcap (LINKTYPE_...).
NULL, ETHERNET, RAW, LOOP, SLL, IPV4, IPV6, SLL2 = 0, 1, 101, 108, 113, 228, 229, 276

#: Common names of link types that are not read (LINKTYPE_...).
LINK_NAMES: Mapping[int, str] = MappingProxyType(
    {
        9: "PPP",
        50: "PPP in HDLC framing",
        51: "PPPoE",
        104: "Cisco HDLC",
        105: "802.11",
        107: "Frame Relay",
        119: "802.11 with Prism header",
        122: "IP over Fibre Channel",
        127: "802.11 with radiotap header",
        147: "USER0",
        149: "USER2, on macOS PKTAP",
        166: "PPP with direction",
        189: "USB",
        192: "PPI",
        195: "802.15.4",
        204: "PPP with direction",
        220: "USB",
        239: "NFLOG",
        249: "USBPcap",
        253: "netlink",
        258: "PKTAP",
        271: "vsock",
    }
)

_TCP, _UDP = 6, 17
_IPV4_TYPE, _IPV6_TYPE = 0x0800, 0x86DD
_VLAN_TAGS = (0x8100, 0x88A8, 0x9100, 0x9200)
_V6_EXTENSIONS = (0, 43, 60)  # hop-by-hop, routing, destination options: length in the second octet
_V6_FRAGMENT = 44
_PORTS_AND_NUMBERS = (
    16  # octets of a TCP header up to window: what a segment cut by the snap length must have
)

_TUNNEL_TYPES = {
    0x8864: "PPPoE",
    0x8847: "MPLS",
    0x8848: "MPLS",
    0x88E5: "MACsec",
    0x88E7: "provider backbone bridging",
    0x8926: "VN-Tag",
    0x894F: "NSH",
    0x22F3: "TRILL",
}
_TUNNEL_PROTOCOLS = {
    4: "IPIP",
    41: "IPv6 in IP",
    47: "GRE",
    50: "IPsec ESP",
    51: "IPsec AH",
    97: "EtherIP",
    115: "L2TP",
    137: "MPLS in IP",
}
_TUNNEL_PORTS = {
    1701: "L2TP",
    2152: "GTP",
    3544: "Teredo",
    4341: "LISP",
    4500: "IPsec NAT traversal",
    4789: "VXLAN",
    4790: "VXLAN-GPE",
    6080: "GUE",
    6081: "Geneve",
    6635: "MPLS in UDP",
    8472: "VXLAN",
    51820: "WireGuard",
}

IpAddress = IPv4Address | IPv6Address
_address = lru_cache(maxsize=4096)(ip_address)


@dataclass(frozen=True, slots=True)
class Unread:
    """Why a packet was not read: `text` completes "N packets ..."; `is_tcp` means TCP cut too short."""

    text: str
    is_tunnel: bool = False
    is_tcp: bool = False


@dataclass(frozen=True, slots=True)
class Segment:
    """A TCP segment in one captured packet.

    `number` is the packet's number in the capture, from 1; `time_ns` is in nanoseconds since the epoch.
    `seq`, `ack` and `window` are as on the wire, without scaling. `payload` holds the captured octets, and
    `payload_length` is the length by the IP header, which is larger if the snap length cuts the packet.
    `malformed` lists octets that are not valid options. `options_cut` is true if the capture lacks a part of
    the TCP header; then no option is known. `ip_id` is the IPv4 identification, or 0.
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
    options_cut: bool = False
    ip_id: int = field(default=0, compare=False)


def _options(octets: bytes) -> tuple[tuple[Option, ...], tuple[MalformedOption, ...]]:
    """Return the valid options and the errors of the others: one bad option does not hide the rest."""
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


def _tunnel(name: str) -> Unread:
    return Unread(f"in a {name} tunnel", is_tunnel=True)


_FRAGMENT = Unread("that are later fragments of an IP packet")
_CUT_TCP = Unread("of TCP that the snap length cuts before the sequence numbers", is_tcp=True)
_CUT_IP = Unread("that the snap length cuts within the IP header", is_tcp=True)


def _unread_link(link_type: int) -> Unread:
    name = f" ({LINK_NAMES[link_type]})" if link_type in LINK_NAMES else ""
    return Unread(
        f"of link type {link_type}{name}, which is not read here", is_tunnel=link_type in (149, 258)
    )


def ip_start(link_type: int, frame: bytes) -> int | Unread | None:
    """Return the offset of the IP header, the reason why it cannot be read, or None if there is none."""
    if link_type == ETHERNET:
        at, ip = 12, 14
    elif link_type == SLL2:
        at, ip = 0, 20
    elif link_type == SLL:
        at, ip = 14, 16
    elif link_type in (RAW, IPV4, IPV6, 12, 14):  # some systems write 12 or 14 for RAW
        return 0
    elif link_type in (NULL, LOOP):
        return 4
    else:
        return _unread_link(link_type)
    kind = int.from_bytes(frame[at : at + 2], "big")
    while kind in _VLAN_TAGS:
        # The next header's type follows the VLAN tag; in cooked captures, both come after the pseudo-header.
        kind = int.from_bytes(frame[ip + 2 : ip + 4], "big")
        ip += 4
    if kind in (_IPV4_TYPE, _IPV6_TYPE):
        return ip
    return _tunnel(_TUNNEL_TYPES[kind]) if kind in _TUNNEL_TYPES else None


def _other_protocol(protocol: int, frame: bytes, at: int) -> Unread | None:
    """Return the tunnel that a packet without TCP belongs to, or None if it is no known tunnel."""
    if protocol in _TUNNEL_PROTOCOLS:
        return _tunnel(_TUNNEL_PROTOCOLS[protocol])
    if protocol == _UDP and len(frame) >= at + 4:
        for port in struct.unpack_from(">HH", frame, at):
            if port in _TUNNEL_PORTS:
                return _tunnel(_TUNNEL_PORTS[port])
    return None


@dataclass(frozen=True, slots=True)
class _Ip:
    src: IpAddress
    dst: IpAddress
    tcp_start: int
    end: int
    id: int = 0


def _ipv4(frame: bytes, at: int, wire_length: int) -> _Ip | Unread | None:
    if len(frame) < at + 20:
        return None if len(frame) > at + 9 and frame[at + 9] != _TCP else _CUT_IP
    total, number, fragment = struct.unpack_from(">HHH", frame, at + 2)
    start = at + (frame[at] & 0x0F) * 4
    if fragment & 0x1FFF:
        return _FRAGMENT if frame[at + 9] == _TCP else None
    if frame[at + 9] != _TCP:
        return _other_protocol(frame[at + 9], frame, start)
    # Length 0: segmentation offload had not written the length yet when the packet was captured.
    end = at + total if total else wire_length
    return _Ip(_address(frame[at + 12 : at + 16]), _address(frame[at + 16 : at + 20]), start, end, number)


def _ipv6(frame: bytes, at: int, wire_length: int) -> _Ip | Unread | None:
    if len(frame) < at + 40:
        is_other = len(frame) > at + 6 and frame[at + 6] not in (_TCP, *_V6_EXTENSIONS, _V6_FRAGMENT)
        return None if is_other else _CUT_IP
    total = int.from_bytes(frame[at + 4 : at + 6], "big")
    end = at + 40 + total if total else wire_length
    src, dst = _address(frame[at + 8 : at + 24]), _address(frame[at + 24 : at + 40])
    following, at = frame[at + 6], at + 40
    while following != _TCP:
        if following not in (*_V6_EXTENSIONS, _V6_FRAGMENT):
            return _other_protocol(following, frame, at)
        if len(frame) < at + 8:
            return _CUT_IP
        if following in _V6_EXTENSIONS:
            following, at = frame[at], at + 8 + frame[at + 1] * 8
        elif int.from_bytes(frame[at + 2 : at + 4], "big") & 0xFFF8:
            return _FRAGMENT if frame[at] == _TCP else None
        else:
            following, at = frame[at], at + 8
    return _Ip(src, dst, at, end)


def read_frame(
    link_type: int, frame: bytes, wire_length: int | None = None, number: int = 0, time_ns: int = 0
) -> Segment | Unread | None:
    """Return the TCP segment in a captured frame, the reason why it was not read, or None if it is not TCP.

    `wire_length` is the frame's length on the wire in octets, by default the captured length. `number` and
    `time_ns` are copied to the segment.
    """
    start = ip_start(link_type, frame)
    if not isinstance(start, int):
        return start
    if len(frame) <= start:
        return _CUT_IP if (wire_length or 0) > start else None
    version = frame[start] >> 4
    if version not in (4, 6):
        return None
    ip = (_ipv4 if version == 4 else _ipv6)(frame, start, wire_length or len(frame))
    if not isinstance(ip, _Ip):
        return ip
    at = ip.tcp_start
    if ip.end < at + 20:
        return None
    if len(frame) < at + _PORTS_AND_NUMBERS:
        return _CUT_TCP
    sport, dport, seq, ack, offset, flags, window = struct.unpack_from(">HHIIBBH", frame, at)
    payload_start = at + (offset >> 4) * 4
    if not at + 20 <= payload_start <= ip.end:
        return None
    is_cut = payload_start > len(frame)
    options, malformed = ((), ()) if is_cut else _options(frame[at + 20 : payload_start])
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
        is_cut,
        ip.id,
    )


def parse_segment(
    link_type: int, frame: bytes, wire_length: int | None = None, number: int = 0, time_ns: int = 0
) -> Segment | None:
    """Return the TCP segment in a captured frame, or None unless its whole TCP header was captured."""
    read = read_frame(link_type, frame, wire_length, number, time_ns)
    return read if isinstance(read, Segment) and not read.options_cut else None


def build_packet(segment: Segment) -> bytes:
    """Return the segment as an IP packet with correct lengths and checksums: a frame of link type RAW.

    Raises:
        ValueError: the addresses have different IP versions, or the options need more than 40 octets.
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
