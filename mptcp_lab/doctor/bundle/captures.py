"""Rewrite a capture for a bundle: TCP headers only, without keys, with replaced addresses. Pure.

- Packets are cut after the TCP header, so no payload is left. Packets that are not TCP are left out.
- The keys of MP_CAPABLE and MP_FASTCLOSE become zeros: with them, anyone could join or close a connection
  that still runs. HMACs, tokens and initial data sequence numbers can therefore not be checked any more.
- Addresses are replaced in headers and in ADD_ADDR, if a map is given. An ADD_ADDR's HMAC is then
  wrong.
- Checksums are updated by the difference (RFC 1624): a right one stays right, a wrong one stays wrong.

The capture is pcapng, as the agent writes it; interfaces, times and directions are kept.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import ip_address

from mptcp_lab.doctor.bundle.addresses import AddressMap
from mptcp_lab.wire.codec import split_options
from mptcp_lab.wire.keys import internet_checksum
from mptcp_lab.wire.options.base import MalformedOption
from mptcp_lab.wire.packet import ETHERNET, ip_start

SECTION, INTERFACE, STATISTICS, PACKET = 0x0A0D0D0A, 1, 5, 6
TCP, MPTCP = 6, 30
CAPABLE, ADD_ADDR, FASTCLOSE = 0, 3, 7
EXTENSIONS = (0, 43, 60)
#: Where an option of MPTCP has its keys: subtype to the first octet.
KEYS_FROM = {CAPABLE: 4, FASTCLOSE: 4}
#: MP_CAPABLE's data length and checksum follow its two keys.
KEYS_END = 20


class CaptureRefused(ValueError):
    """The octets are no pcapng capture as the agent writes it."""


def rewrite_capture(pcapng: bytes, addresses: AddressMap | None = None) -> tuple[bytes, int]:
    """Return the capture without keys and payload, and how many packets were left out because of no TCP."""
    out, link_types, left_out = [], [], 0
    for kind, body in read_blocks(pcapng):
        if kind == SECTION:
            out.append(_block(SECTION, body[:16]))  # without options: they name the host
        elif kind == INTERFACE:
            link_types.append(struct.unpack_from("<H", body)[0])
            out.append(_block(INTERFACE, body))
        elif kind == STATISTICS:
            out.append(_block(STATISTICS, body))
        elif kind == PACKET:
            rewritten = _rewrite_packet(body, link_types, addresses)
            left_out += rewritten is None
            out += [rewritten] if rewritten else []
    return b"".join(out), left_out


def read_blocks(pcapng: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and body of each block; raise `CaptureRefused` if the octets are something else."""
    if pcapng[8:12] != struct.pack("<I", 0x1A2B3C4D):
        raise CaptureRefused("not a little-endian pcapng capture")
    at = 0
    while at < len(pcapng):
        if len(pcapng) - at < 12:
            raise CaptureRefused(f"cut at octet {at}")
        kind, length = struct.unpack_from("<II", pcapng, at)
        if length % 4 or not 12 <= length <= len(pcapng) - at:
            raise CaptureRefused(f"a block of {length} octets at octet {at}")
        yield kind, pcapng[at + 8 : at + length - 4]
        at += length


def _block(kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length


def _rewrite_packet(body: bytes, link_types: list[int], addresses: AddressMap | None) -> bytes | None:
    number, high, low, captured, wire_length = struct.unpack_from("<5I", body)
    if number >= len(link_types) or captured > len(body) - 20:
        raise CaptureRefused("a packet does not fit its block")
    frame = rewrite_frame(link_types[number], body[20 : 20 + captured], addresses)
    if frame is None:
        return None
    options = body[20 + captured + -captured % 4 :]
    head = struct.pack("<5I", number, high, low, len(frame), wire_length)
    return _block(PACKET, head + frame + bytes(-len(frame) % 4) + options)


def rewrite_frame(link_type: int, frame: bytes, addresses: AddressMap | None) -> bytes | None:
    """Return a frame that ends with its TCP header, rewritten; None for one that is not TCP or cut."""
    ip = ip_start(link_type, frame)
    if not isinstance(ip, int) or len(frame) <= ip:
        return None
    is_v4 = frame[ip] >> 4 == 4
    tcp = _tcp_start(frame, ip, is_v4)
    if tcp is None or len(frame) < tcp + 20 or len(frame) < tcp + (frame[tcp + 12] >> 4) * 4:
        return None
    out = bytearray(frame[: tcp + (frame[tcp + 12] >> 4) * 4])
    header_before = bytes(out[ip:tcp])
    first, size = (ip + 12, 4) if is_v4 else (ip + 8, 16)
    addresses_before = bytes(out[first : first + 2 * size])
    segment_before = bytes(out[tcp:])
    if addresses is not None:
        for at in (first, first + size):
            out[at : at + size] = addresses.address(ip_address(bytes(out[at : at + size]))).packed
        if link_type == ETHERNET:
            out[0:6], out[6:12] = addresses.mac(bytes(out[0:6])), addresses.mac(bytes(out[6:12]))
    _rewrite_options(out, tcp, addresses)
    if is_v4:
        _update(out, ip + 10, header_before, bytes(out[ip:tcp]))
    changed = bytes(out[first : first + 2 * size]) + bytes(out[tcp:])
    _update(out, tcp + 16, addresses_before + segment_before, changed)
    return bytes(out)


def _tcp_start(frame: bytes, ip: int, is_v4: bool) -> int | None:
    """Return where the TCP header begins; None for another protocol and for later fragments."""
    if is_v4:
        if (
            len(frame) < ip + 20
            or frame[ip + 9] != TCP
            or struct.unpack_from(">H", frame, ip + 6)[0] & 0x1FFF
        ):
            return None
        return ip + (frame[ip] & 0x0F) * 4
    if len(frame) < ip + 40:
        return None
    following, at = frame[ip + 6], ip + 40
    while following in EXTENSIONS and len(frame) >= at + 8:
        following, at = frame[at], at + 8 + frame[at + 1] * 8
    return at if following == TCP else None


def _rewrite_options(out: bytearray, tcp: int, addresses: AddressMap | None) -> None:
    """Replace keys and announced addresses in the options; what is no option becomes zeros."""
    at = tcp + 20
    try:
        for offset, octets in split_options(bytes(out[at:])):
            if octets[0] == MPTCP and len(octets) >= 4:
                out[at + offset : at + offset + len(octets)] = _rewrite_option(octets, addresses)
    except MalformedOption as error:
        start = at + error.offset
        out[start:] = bytes(len(out) - start)


def _rewrite_option(octets: bytes, addresses: AddressMap | None) -> bytes:
    subtype, version = octets[2] >> 4, octets[2] & 0x0F
    if subtype in KEYS_FROM:
        start = KEYS_FROM[subtype]
        end = max(start, min(len(octets), KEYS_END))
        return octets[:start] + bytes(end - start) + octets[end:]
    if subtype != ADD_ADDR or addresses is None:
        return octets
    # Version 0 has the family in the low bits and no HMAC; version 1 has the echo flag there.
    is_v6 = version == 6 if version in (4, 6) else len(octets) in (20, 22, 28, 30)
    size = 16 if is_v6 else 4
    if len(octets) < 4 + size:
        return octets
    replaced = addresses.address(ip_address(octets[4 : 4 + size])).packed
    return octets[:4] + replaced + octets[4 + size :]


def _update(out: bytearray, at: int, before: bytes, after: bytes) -> None:
    """Update the checksum at an offset for changed octets (RFC 1624, equation 3)."""
    old = struct.unpack_from(">H", out, at)[0]
    # ~internet_checksum is the sum: HC' = ~(~HC + ~m + m') over all words of both texts.
    removed, added = internet_checksum(before), internet_checksum(after) ^ 0xFFFF
    total = (~old & 0xFFFF) + removed + added
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    struct.pack_into(">H", out, at, ~total & 0xFFFF)
