"""What a client of the origin service says first.

Its first line is `MPTCPLAB/1 <mode> <tag> [key=value...]\n`:

    echo     send back what arrives
    sink     read everything; at the end of the stream answer one JSON line with bytes and sha256
    source   send `bytes=` of pattern (`seed=`, `pattern=`)
    duplex   read everything and send pattern at the same time

Bytes and digests in records do not count that line, nor the PROXY header that may come before it.
"""

from __future__ import annotations

import struct

from .basics import Json
from .socket_facts import text_address

GREETING_LIMIT = 512
PROXY_V2 = b"\r\n\r\n\0\r\nQUIT\n"
MODES = ("echo", "sink", "source", "duplex")


class BadStart(Exception):
    """What came first on a connection is not what it has to be."""


class Incomplete(Exception):
    """More bytes are needed."""


def parse_proxy_header(data: bytes) -> tuple[Json, int]:
    """A PROXY protocol header, version 1 or 2 (haproxy's proxy-protocol.txt): (what it says, its length)."""
    if data[: len(PROXY_V2)] == PROXY_V2[: len(data)]:
        return _proxy_v2(data)
    if data[:6] != b"PROXY "[: len(data)]:
        raise BadStart("no PROXY protocol header")
    line, found, _ = data.partition(b"\r\n")
    if not found:
        if len(data) > 107:
            raise BadStart("PROXY protocol line longer than 107 bytes")
        raise Incomplete
    words = line.decode("ascii", "replace").split(" ")
    document: Json = {"version": 1, "family": words[1] if len(words) > 1 else ""}
    if len(words) == 6:
        document["source"] = [words[2], int(words[4])]
        document["destination"] = [words[3], int(words[5])]
    elif document["family"] != "UNKNOWN":
        raise BadStart("malformed PROXY protocol line")
    return document, len(line) + 2


def _proxy_v2(data: bytes) -> tuple[Json, int]:
    if len(data) < 16:
        raise Incomplete
    command, family, length = struct.unpack_from("!BBH", data, 12)
    if command >> 4 != 2:
        raise BadStart(f"PROXY protocol version {command >> 4}")
    if len(data) < 16 + length:
        raise Incomplete
    names = {0x11: "TCP4", 0x21: "TCP6"}
    document: Json = {"version": 2, "family": names.get(family, "LOCAL" if command & 15 == 0 else "UNKNOWN")}
    size = {0x11: 4, 0x21: 16}.get(family)
    if size is not None and command & 15 == 1:
        source, destination = data[16 : 16 + size], data[16 + size : 16 + 2 * size]
        ports = struct.unpack_from("!HH", data, 16 + 2 * size)
        document["source"] = [text_address(source), ports[0]]
        document["destination"] = [text_address(destination), ports[1]]
    return document, 16 + length


def parse_greeting(data: bytes) -> tuple[str, str, dict[str, str], int]:
    """(mode, tag, options, length) of the first line."""
    line, found, _ = data.partition(b"\n")
    if not found:
        if len(data) > GREETING_LIMIT:
            raise BadStart(f"no end of line within {GREETING_LIMIT} bytes")
        raise Incomplete
    words = line.decode("ascii", "replace").split()
    if len(words) < 3 or words[0] != "MPTCPLAB/1" or words[1] not in MODES:
        raise BadStart(f"expected 'MPTCPLAB/1 <{'|'.join(MODES)}> <tag> [key=value...]'")
    pairs = (word.partition("=") for word in words[3:])
    return words[1], words[2], {key: value for key, _, value in pairs}, len(line) + 1
