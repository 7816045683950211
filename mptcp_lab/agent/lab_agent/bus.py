"""Call systemd's manager over its private socket, as systemctl(1) and systemd-run(1) do for root.

A message is one of D-Bus: a header and a body, whose values are packed by their types ("Message Protocol" in
the D-Bus specification). This module packs the types that it sends.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .basics import patient

PRIVATE = Path("/run/systemd/private")
ROOT_PATH, MANAGER = "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"
CALL, RETURN, ERROR = 1, 2, 3
FIXED = {"y": "<B", "b": "<I", "i": "<i", "u": "<I", "t": "<Q"}
ALIGNMENT = {"y": 1, "b": 4, "i": 4, "u": 4, "t": 8, "s": 4, "o": 4, "g": 1, "v": 1, "a": 4, "(": 8}
#: Codes of header fields.
PATH, INTERFACE, MEMBER, SIGNATURE = 1, 2, 3, 8
TIMEOUT_S = 5.0


class BusError(OSError):
    """The manager cannot be called, or refused a call."""


def split_types(signature: str) -> list[str]:
    """Return the complete types in a signature: "sa(sv)u" has "s", "a(sv)" and "u"."""
    found, start, depth = [], 0, 0
    for position, letter in enumerate(signature):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if depth == 0 and letter != "a":
            found.append(signature[start : position + 1])
            start = position + 1
    return found


def pack(out: bytearray, kind: str, value: Any) -> None:
    """Append a value of a complete type; a variant is given as (type, value)."""
    out += bytes(-len(out) % ALIGNMENT[kind[0]])
    if kind in FIXED:
        out += struct.pack(FIXED[kind], value)
    elif kind in ("s", "o"):
        text = value.encode()
        out += struct.pack("<I", len(text)) + text + b"\0"
    elif kind == "g":
        out += bytes([len(value)]) + value.encode() + b"\0"
    elif kind == "v":
        pack(out, "g", value[0])
        pack(out, value[0], value[1])
    elif kind[0] == "(":
        for each, item in zip(split_types(kind[1:-1]), value):
            pack(out, each, item)
    else:
        length = len(out)
        out += bytes(4)
        out += bytes(-len(out) % ALIGNMENT[kind[1]])
        start = len(out)
        for item in value:
            pack(out, kind[1:], item)
        struct.pack_into("<I", out, length, len(out) - start)


def pack_call(path: str, interface: str, member: str, signature: str, values: Sequence[Any]) -> bytes:
    """Return the message that calls a method; its number is always 1: no two calls are under way."""
    body, message = bytearray(), bytearray()
    for kind, value in zip(split_types(signature), values):
        pack(body, kind, value)
    fields = [(PATH, ("o", path)), (INTERFACE, ("s", interface)), (MEMBER, ("s", member))]
    fields.append((SIGNATURE, ("g", signature)))
    for kind, value in zip("yyyyuu", (ord("l"), CALL, 0, 1, len(body), 1)):
        pack(message, kind, value)
    pack(message, "a(yv)", fields)
    message += bytes(-len(message) % 8)
    return bytes(message + body)


class Bus:
    """A connection to the manager; close it, or use it as a context manager."""

    def __init__(self) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._sock.settimeout(patient(TIMEOUT_S))
            self._sock.connect(str(PRIVATE))
            user = str(os.geteuid()).encode().hex().encode()
            self._sock.sendall(b"\0AUTH EXTERNAL " + user + b"\r\nBEGIN\r\n")
            answer = self._read_line()
            if not answer.startswith(b"OK "):
                raise BusError(f"{PRIVATE} answers {answer!r}")
        except BaseException:
            self._sock.close()
            raise

    def __enter__(self) -> Bus:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def call(self, path: str, interface: str, member: str, signature: str, *values: Any) -> bytes:
        """Call a method, and return the body of its answer; raise BusError if the manager refuses."""
        self._sock.sendall(pack_call(path, interface, member, signature, values))
        while True:
            head = self._read(16)
            if head[:1] != b"l":
                raise BusError(f"{PRIVATE} answers {head!r}")
            body, _, fields = struct.unpack_from("<III", head, 4)
            self._read(fields + -fields % 8)
            content = self._read(body)
            if head[1] == RETURN:
                return content
            if head[1] == ERROR:
                raise BusError(f"{member}: {content[4:].decode(errors='replace').rstrip(chr(0))}")

    def read_state(self, unit: str) -> str:
        """Return the ActiveState of a unit that is loaded."""
        name = "".join(c if c.isalnum() and c.isascii() else f"_{ord(c):02x}" for c in unit)
        properties, of_unit = "org.freedesktop.DBus.Properties", "org.freedesktop.systemd1.Unit"
        body = self.call(f"{ROOT_PATH}/unit/{name}", properties, "Get", "ss", of_unit, "ActiveState")
        return body[8:].decode(errors="replace").rstrip("\0")  # behind the variant's type and the length

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self._sock.recv(count - len(data))
            if not more:
                raise BusError(f"{PRIVATE}: the manager closed the connection")
            data += more
        return data

    def _read_line(self) -> bytes:
        line = b""
        while not line.endswith(b"\r\n"):
            line += self._read(1)
        return line
