"""A small netlink client: sockets, messages and attributes."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator

from ..basics import patient

NETLINK_ROUTE, NETLINK_NETFILTER, NETLINK_GENERIC = 0, 12, 16
SOL_NETLINK, NETLINK_ADD_MEMBERSHIP = 270, 1
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLA_F_NESTED, NLA_TYPE_MASK = 0x8000, 0x3FFF


def pack_attr(kind: int, data: bytes) -> bytes:
    """Return one netlink attribute, padded to 4 bytes."""
    return struct.pack("=HH", len(data) + 4, kind) + data + bytes(-len(data) % 4)


def parse_attrs(data: bytes) -> dict[int, bytes]:
    """Return the attributes by type; if a type is repeated, the last one counts."""
    found = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if length < 4:
            break
        found[kind & NLA_TYPE_MASK] = data[4:length]
        data = data[(length + 3) & ~3 :]
    return found


def split_messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (type, payload) of each netlink message in a datagram."""
    while len(data) >= 16:
        length, kind = struct.unpack_from("=IH", data)
        yield kind, data[16:length]
        data = data[(length + 3) & ~3 :]


class Netlink:
    """A netlink socket for requests and their answers."""

    def __init__(self, protocol: int) -> None:
        self.sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self.sock.bind((0, 0))
        self.sock.settimeout(patient(5))

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def request(self, kind: int, payload: bytes, flags: int = NLM_F_ACK) -> list[bytes]:
        """Send one request and return the payloads of its answers; raise OSError with the kernel's errno."""
        self.send(((kind, flags, payload),))
        return self.receive()

    def send(self, messages: tuple[tuple[int, int, bytes], ...]) -> None:
        """Send (type, flags, payload) messages in one datagram."""
        self.sock.send(
            b"".join(
                struct.pack("=IHHII", 16 + len(payload), kind, flags | NLM_F_REQUEST, 1, 0) + payload
                for kind, flags, payload in messages
            )
        )

    def receive(self) -> list[bytes]:
        """Return the payloads of the answers up to the acknowledgement or the end of a dump.

        Raises OSError with the kernel's errno if the kernel reports an error.
        """
        answers: list[bytes] = []
        while True:
            for kind, data in split_messages(self.sock.recv(1 << 18)):
                if kind == NLMSG_ERROR:
                    number = -struct.unpack_from("=i", data)[0]
                    if number:
                        raise OSError(number, os.strerror(number))
                    return answers
                if kind == NLMSG_DONE:
                    return answers
                answers.append(data)


def device_name(index: int) -> str:
    """Return the name of a network device, or "" for index 0 and for a device that no longer exists."""
    with contextlib.suppress(OSError):
        return socket.if_indextoname(index) if index > 0 else ""
    return ""
