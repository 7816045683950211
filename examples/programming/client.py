#!/usr/bin/env python3
"""An MPTCP client: python3 client.py HOST PORT MESSAGE

Opens an MPTCP socket (plain TCP where the kernel refuses one), sends a line, reads the answer to its end, and
prints what the connection is as one line of JSON. Needs Linux 5.6; to read all of it, 5.16.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
from typing import Any

IPPROTO_MPTCP = 262  # socket.IPPROTO_MPTCP from Python 3.10 on
SOL_MPTCP = 284
MPTCP_INFO, MPTCP_SUBFLOW_ADDRS = 1, 3
TCP_IS_MPTCP = 43  # Linux 6.10
SOCKADDR_STORAGE = 128
MOST_SUBFLOWS = 16


def open_socket(family: int) -> tuple[socket.socket, str]:
    """Return a socket, and the error with which the kernel refused MPTCP ("" if it did not)."""
    try:
        return socket.socket(family, socket.SOCK_STREAM, IPPROTO_MPTCP), ""
    except OSError as error:
        # ENOPROTOOPT: net.mptcp.enabled=0; EPROTONOSUPPORT: not compiled; EINVAL: before 5.6
        return socket.socket(family, socket.SOCK_STREAM), str(error.strerror)


def has_info(sock: socket.socket) -> bool:
    """Return whether MPTCP_INFO answers: on MPTCP sockets from Linux 5.16 on, until they fall back."""
    try:
        return bool(sock.getsockopt(SOL_MPTCP, MPTCP_INFO, 256))
    except OSError:  # EOPNOTSUPP
        return False


def is_mptcp(sock: socket.socket) -> bool:
    """Return whether a connected socket (still) speaks MPTCP with its peer: False after a fallback."""
    try:
        return bool(sock.getsockopt(socket.IPPROTO_TCP, TCP_IS_MPTCP))
    except OSError:  # before 6.10: EOPNOTSUPP from MPTCP, ENOPROTOOPT from TCP
        return has_info(sock)


def token(sock: socket.socket) -> int | str:
    """Return the connection's token from struct mptcp_info, or an error (EOPNOTSUPP: not MPTCP)."""
    try:
        return int(struct.unpack_from("=I", sock.getsockopt(SOL_MPTCP, MPTCP_INFO, 256), 12)[0])
    except OSError as error:
        return str(error.strerror)


def subflows(sock: socket.socket) -> list[list[str]]:
    """Return the subflows as [local address, remote address]; none where the socket is not MPTCP.

    struct mptcp_subflow_data {size of itself, count, kernel's size, user's size of an entry}, then an entry
    of two struct sockaddr_storage per subflow. The kernel reads the sizes, and Python's getsockopt() hands
    nothing in, so libc is asked.
    """
    import ctypes

    entry = 2 * SOCKADDR_STORAGE
    head = struct.pack("=4I", 16, 0, 0, entry)
    buffer = ctypes.create_string_buffer(head, len(head) + MOST_SUBFLOWS * entry)
    length = ctypes.c_uint32(len(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.getsockopt(sock.fileno(), SOL_MPTCP, MPTCP_SUBFLOW_ADDRS, buffer, ctypes.byref(length)):
        return []
    count = struct.unpack_from("=4I", buffer.raw)[1]
    starts = [len(head) + number * entry for number in range(count)]
    return [[address(buffer.raw[at:]), address(buffer.raw[at + SOCKADDR_STORAGE :])] for at in starts]


def address(storage: bytes) -> str:
    """Return the address in a struct sockaddr_storage."""
    family = struct.unpack_from("=H", storage)[0]
    raw = storage[4:8] if family == socket.AF_INET else storage[8:24]
    return socket.inet_ntop(family, raw)


def main(host: str, port: str, message: str) -> None:
    """Talk to a server and print what the connection is."""
    family, _, _, _, peer = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    sock, refused = open_socket(family)
    with sock:
        known = bool(refused) or has_info(sock)  # nothing has fallen back yet: does the kernel have it?
        sock.connect(peer)
        sock.sendall(message.encode() + b"\n")
        sock.recv(65536)
        found: dict[str, Any] = {
            "refused": refused,
            "is_mptcp": is_mptcp(sock) if known else None,
            "token": token(sock),
            "subflows": subflows(sock),
        }
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
