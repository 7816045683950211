"""List listening sockets and connections of TCP and MPTCP by netlink (include/uapi/linux/inet_diag.h)."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from ..basics import Json
from ..kernel.netlink import NLM_F_DUMP, Netlink, pack_attr, parse_attrs
from ..kernel.socket_diag import NETLINK_SOCK_DIAG
from ..kernel.socket_facts import IPPROTO_MPTCP, plain_address, text_address

SOCK_DIAG_BY_FAMILY = 20
REQ_PROTOCOL = 3  # the attribute of a protocol number above 255
INFO, SKV6ONLY, ULP_INFO = 2, 11, 19
# Attributes below ULP_INFO and ULP_MPTCP (include/uapi/linux/mptcp.h); flags and token in struct mptcp_info.
ULP_NAME, ULP_MPTCP, SUBFLOW_TOKEN, MPTCP_INFO_FLAGS, MPTCP_INFO_TOKEN = 1, 3, 2, 8, 12
MPTCP_INFO_FLAG_FALLBACK = 1
ESTABLISHED, LISTEN = 1 << 1, 1 << 10
MESSAGE = 72  # octets of struct inet_diag_msg


class Socket(NamedTuple):
    """One socket of a dump."""

    local: str
    local_port: int
    remote: str
    remote_port: int
    queue: int
    limit: int
    inode: int
    is_ipv6_only: bool
    is_subflow: bool
    token: int  # the local one of its MPTCP connection, 0 where the kernel does not report it
    has_fallen_back: bool  # an MPTCP socket whose connection continues as plain TCP


def dump(protocol: int, states: int) -> Iterator[Socket]:
    """Yield the sockets of a protocol (6 or 262) that are in one of these states, over IPv4 and IPv6."""
    with Netlink(NETLINK_SOCK_DIAG) as netlink:
        for family in (socket.AF_INET, socket.AF_INET6):
            request = struct.pack("=BBBBI", family, protocol & 0xFF, 1 << (INFO - 1), 0, states) + bytes(48)
            if protocol > 0xFF:
                request += pack_attr(REQ_PROTOCOL, struct.pack("=I", protocol))
            for answer in netlink.request(SOCK_DIAG_BY_FAMILY, request, NLM_F_DUMP):
                yield parse(answer, protocol)


def parse(answer: bytes, protocol: int) -> Socket:
    """Return the socket in a struct inet_diag_msg."""
    length = 4 if answer[0] == socket.AF_INET else 16
    local_port, remote_port = struct.unpack_from("!HH", answer, 4)
    queue, limit, _, inode = struct.unpack_from("=4I", answer, 56)
    attrs = parse_attrs(answer[MESSAGE:])
    layer = parse_attrs(attrs.get(ULP_INFO, b""))
    subflow = parse_attrs(layer.get(ULP_MPTCP, b""))
    token = subflow.get(SUBFLOW_TOKEN, b"") or attrs.get(INFO, b"")[MPTCP_INFO_TOKEN : MPTCP_INFO_TOKEN + 4]
    is_subflow = layer.get(ULP_NAME, b"").rstrip(b"\0") == b"mptcp"
    is_known = len(token) == 4 and (is_subflow or protocol == IPPROTO_MPTCP)
    info = attrs.get(INFO, b"") if protocol == IPPROTO_MPTCP else b""
    flags = struct.unpack_from("=I", info, MPTCP_INFO_FLAGS)[0] if len(info) >= MPTCP_INFO_TOKEN else 0
    return Socket(
        plain_address(text_address(answer[8 : 8 + length])),
        local_port,
        plain_address(text_address(answer[24 : 24 + length])),
        remote_port,
        queue,
        limit,
        inode,
        bool(attrs.get(SKV6ONLY, b"\0")[0]),
        is_subflow,
        struct.unpack("=I", token)[0] if is_known else 0,
        bool(flags & MPTCP_INFO_FLAG_FALLBACK),
    )


def read_listeners() -> list[Json]:
    """Return the listening sockets, each with its inode.

    The kernel lists the socket below an MPTCP listener as a TCP socket too, with the same inode.
    """
    try:
        multipath = {each.inode for each in dump(IPPROTO_MPTCP, LISTEN)}
    except OSError:  # a kernel without mptcp_diag
        multipath = set()
    return [
        {
            "protocol": "mptcp" if each.is_subflow or (each.inode and each.inode in multipath) else "tcp",
            "address": each.local,
            "port": each.local_port,
            "queue": each.queue,
            "backlog": each.limit,
            "is_ipv6_only": each.is_ipv6_only,
            "inode": each.inode,
        }
        for each in dump(socket.IPPROTO_TCP, LISTEN)
    ]


def read_connections(ports: list[int]) -> list[Json]:
    """Return the established connections that use one of these ports; MPTCP ones with their subflows."""
    wanted = set(ports)
    tcp = list(dump(socket.IPPROTO_TCP, ESTABLISHED))
    try:
        multipath = list(dump(IPPROTO_MPTCP, ESTABLISHED))
    except OSError:  # a kernel without mptcp_diag
        multipath = []
    subflows: dict[int, list[list[str]]] = {}
    for each in tcp:
        if each.is_subflow and each.token:
            subflows.setdefault(each.token, []).append([each.local, each.remote])
    plain = [each for each in tcp if not each.is_subflow]
    shown = [("mptcp", each) for each in multipath] + [("tcp", each) for each in plain]
    return [
        {
            "protocol": name,
            "local": each.local,
            "local_port": each.local_port,
            "remote": each.remote,
            "remote_port": each.remote_port,
            "subflows": subflows.get(each.token, []) if each.token else [],
            "has_fallen_back": each.has_fallen_back,
        }
        for name, each in shown
        if {each.local_port, each.remote_port} & wanted
    ]


def is_listening(port: int) -> bool:
    """Return whether a socket listens on a port."""
    return any(each.local_port == port for each in dump(socket.IPPROTO_TCP, LISTEN))
