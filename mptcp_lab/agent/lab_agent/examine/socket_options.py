"""Find the socket options that an MPTCP socket refuses and a TCP socket takes."""

from __future__ import annotations

import errno
import socket
import struct

from ..basics import Json
from ..kernel.socket_facts import IPPROTO_MPTCP

ON = struct.pack("=i", 1)
#: A struct tcp_md5sig: a key of four octets for the peer 192.0.2.1.
MD5_KEY = struct.pack("=H2x4s120xBBHI80s", socket.AF_INET, bytes((192, 0, 2, 1)), 0, 0, 4, 0, b"test")
#: Options that programs set on listeners and connections: level, number (include/uapi/linux/tcp.h), value.
OPTIONS = {
    "TCP_NODELAY": (socket.IPPROTO_TCP, 1, ON),
    "TCP_MAXSEG": (socket.IPPROTO_TCP, 2, struct.pack("=i", 1200)),
    "TCP_CORK": (socket.IPPROTO_TCP, 3, ON),
    "TCP_KEEPIDLE": (socket.IPPROTO_TCP, 4, struct.pack("=i", 60)),
    "TCP_KEEPINTVL": (socket.IPPROTO_TCP, 5, struct.pack("=i", 60)),
    "TCP_KEEPCNT": (socket.IPPROTO_TCP, 6, struct.pack("=i", 5)),
    "TCP_SYNCNT": (socket.IPPROTO_TCP, 7, struct.pack("=i", 5)),
    "TCP_LINGER2": (socket.IPPROTO_TCP, 8, struct.pack("=i", 60)),
    "TCP_DEFER_ACCEPT": (socket.IPPROTO_TCP, 9, ON),
    "TCP_WINDOW_CLAMP": (socket.IPPROTO_TCP, 10, struct.pack("=i", 65535)),
    "TCP_QUICKACK": (socket.IPPROTO_TCP, 12, ON),
    "TCP_CONGESTION": (socket.IPPROTO_TCP, 13, b"reno"),
    "TCP_USER_TIMEOUT": (socket.IPPROTO_TCP, 18, struct.pack("=i", 30_000)),
    "TCP_MD5SIG": (socket.IPPROTO_TCP, 14, MD5_KEY),
    "TCP_REPAIR": (socket.IPPROTO_TCP, 19, ON),
    "TCP_FASTOPEN": (socket.IPPROTO_TCP, 23, struct.pack("=i", 5)),
    "TCP_NOTSENT_LOWAT": (socket.IPPROTO_TCP, 25, struct.pack("=i", 16384)),
    "TCP_FASTOPEN_CONNECT": (socket.IPPROTO_TCP, 30, ON),
    "SO_REUSEPORT": (socket.SOL_SOCKET, 15, ON),
    "SO_KEEPALIVE": (socket.SOL_SOCKET, 9, ON),
    "IP_TOS": (socket.IPPROTO_IP, 1, struct.pack("=i", 16)),
    "IP_FREEBIND": (socket.IPPROTO_IP, 15, ON),
    "IP_BIND_ADDRESS_NO_PORT": (socket.IPPROTO_IP, 24, ON),
}


def read_refused_options() -> Json:
    """Return the names of such options with the errors' names; none where there is no MPTCP socket."""
    refused = {}
    for name, option in OPTIONS.items():
        error = try_option(IPPROTO_MPTCP, *option)
        if error and not try_option(socket.IPPROTO_TCP, *option):
            refused[name] = error
    return refused


def try_option(protocol: int, level: int, number: int, value: bytes) -> str:
    """Set one option of a new socket, and return the error's name or ""."""
    try:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
    except OSError:
        return ""
    with sock:
        try:
            sock.setsockopt(level, number, value)
        except OSError as error:
            return errno.errorcode.get(error.errno or 0, str(error))
    return ""
