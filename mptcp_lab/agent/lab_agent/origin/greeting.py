"""Parse the start of a connection to the origin service: PROXY header and greeting.

The greeting is the client's first line, `MPTCPLAB/1 <mode> <tag> [key=value...]\n`. Its mode is one of:

    echo     send back all received data
    sink     read everything; at the end of the stream answer one JSON line with bytes and sha256
    source   send `bytes=` bytes of the pattern (`seed=`, `pattern=`)
    duplex   read everything and send the pattern at the same time; end when the client has ended too

With `chunk=` (bytes) and `interval_ms=`, the pattern is sent in chunks, one per interval.

Bytes and digests in records include neither that line nor the PROXY header that may come before it.
"""

from __future__ import annotations

import re
import socket
import struct

from ..basics import Json
from ..data import BLOCK

GREETING_LIMIT = 512
PROXY_V1_LIMIT = 107
PROXY_V2_LIMIT = 4096  # the specification allows 65,535 octets; proxies send a few hundred at most
PROXY_V2 = b"\r\n\r\n\0\r\nQUIT\n"
PROXY_V2_LOCAL, PROXY_V2_PROXY = 0, 1
#: By the family octet of version 2: name, address family, octets per address.
PROXY_V2_FAMILIES = {0x11: ("TCP4", socket.AF_INET, 4), 0x21: ("TCP6", socket.AF_INET6, 16)}
PROXY_V1_FAMILIES = {"TCP4": socket.AF_INET, "TCP6": socket.AF_INET6}
MODES = ("echo", "sink", "source", "duplex")
MOST_BYTES = 1 << 40
MOST_INTERVAL_MS = 60_000
NUMBER = re.compile(r"[0-9]{1,13}")


class BadStart(Exception):
    """The first octets of a connection are not a PROXY header or greeting."""


class Incomplete(Exception):
    """More bytes are needed before the start can be parsed."""


def parse_proxy_header(data: bytes) -> tuple[Json, int]:
    """Parse a PROXY protocol header and return (document, length in bytes).

    The specification is haproxy's proxy-protocol.txt, versions 1 and 2. Raises Incomplete while octets are
    missing, and BadStart if the data are not such a header.
    """
    if data[: len(PROXY_V2)] == PROXY_V2[: len(data)]:
        return _proxy_v2(data)
    if data[:6] != b"PROXY "[: len(data)]:
        raise BadStart("no PROXY protocol header")
    line, found, _ = data[: PROXY_V1_LIMIT + 1].partition(b"\r\n")
    if not found:
        if len(data) > PROXY_V1_LIMIT:
            raise BadStart(f"PROXY protocol line longer than {PROXY_V1_LIMIT} bytes")
        raise Incomplete
    words = line.decode("ascii", "replace").split(" ")
    document: Json = {"version": 1, "family": words[1]}
    if document["family"] in PROXY_V1_FAMILIES and len(words) == 6:
        family = PROXY_V1_FAMILIES[document["family"]]
        document["source"] = [_address(family, words[2]), _port(words[4])]
        document["destination"] = [_address(family, words[3]), _port(words[5])]
    elif document["family"] != "UNKNOWN":
        raise BadStart("malformed PROXY protocol line")
    return document, len(line) + 2


def _address(family: int, text: str) -> str:
    try:
        return socket.inet_ntop(family, socket.inet_pton(family, text))
    except (OSError, ValueError):
        raise BadStart("malformed address in the PROXY protocol line") from None


def _port(text: str) -> int:
    if not NUMBER.fullmatch(text) or int(text) > 65535:
        raise BadStart("malformed port in the PROXY protocol line")
    return int(text)


def _proxy_v2(data: bytes) -> tuple[Json, int]:
    if len(data) < 16:
        raise Incomplete
    version_command, octet, length = struct.unpack_from("!BBH", data, 12)
    version, command = version_command >> 4, version_command & 15
    if version != 2 or command not in (PROXY_V2_LOCAL, PROXY_V2_PROXY):
        raise BadStart(f"PROXY protocol version {version}, command {command}")
    if length > PROXY_V2_LIMIT:
        raise BadStart(f"PROXY protocol header of {length} bytes, more than {PROXY_V2_LIMIT}")
    name, family, size = PROXY_V2_FAMILIES.get(octet, ("UNKNOWN", 0, 0))
    if command == PROXY_V2_LOCAL:
        name, family, size = "LOCAL", 0, 0
    if size and length < 2 * size + 4:
        raise BadStart(f"PROXY protocol header of {length} bytes, too short for {name}")
    if len(data) < 16 + length:
        raise Incomplete
    document: Json = {"version": 2, "family": name}
    if size:
        source, destination = data[16 : 16 + size], data[16 + size : 16 + 2 * size]
        ports = struct.unpack_from("!HH", data, 16 + 2 * size)
        document["source"] = [socket.inet_ntop(family, source), ports[0]]
        document["destination"] = [socket.inet_ntop(family, destination), ports[1]]
    return document, 16 + length


def parse_greeting(data: bytes) -> tuple[str, str, dict[str, str], int]:
    """Parse the greeting and return (mode, tag, options, length of the line in bytes).

    Raises Incomplete while the end of the line is missing, and BadStart if the line is not a greeting.
    """
    line, found, _ = data[: GREETING_LIMIT + 1].partition(b"\n")
    if not found:
        if len(data) > GREETING_LIMIT:
            raise BadStart(f"no end of line within {GREETING_LIMIT} bytes")
        raise Incomplete
    text = line.decode("ascii", "replace").strip("\r")
    words = text.split()
    if len(words) < 3 or words[0] != "MPTCPLAB/1" or words[1] not in MODES or not text.isprintable():
        raise BadStart(f"expected 'MPTCPLAB/1 <{'|'.join(MODES)}> <tag> [key=value...]'")
    pairs = (word.partition("=") for word in words[3:])
    return words[1], words[2], {key: value for key, _, value in pairs}, len(line) + 1


def parse_length(text: str) -> int:
    """Return the number of bytes that a client asks for; raise BadStart if it is not 0 to `MOST_BYTES`."""
    if not NUMBER.fullmatch(text) or int(text) > MOST_BYTES:
        raise BadStart(f"bytes={text[:20]}: use 0 to {MOST_BYTES}")
    return int(text)


def parse_pace(options: dict[str, str]) -> tuple[int, float]:
    """Return the bytes per chunk and the seconds between two chunks that a client asks for.

    Raises BadStart for a chunk that is not 1 to `BLOCK` bytes, or an interval above `MOST_INTERVAL_MS`.
    """
    chunk, interval = options.get("chunk", str(BLOCK)), options.get("interval_ms", "0")
    if not NUMBER.fullmatch(chunk) or not 1 <= int(chunk) <= BLOCK:
        raise BadStart(f"chunk={chunk[:20]}: use 1 to {BLOCK}")
    if not NUMBER.fullmatch(interval) or int(interval) > MOST_INTERVAL_MS:
        raise BadStart(f"interval_ms={interval[:20]}: use 0 to {MOST_INTERVAL_MS}")
    return int(chunk), int(interval) / 1000
