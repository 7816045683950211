"""Read the kernel's facts about a socket (include/uapi/linux/mptcp.h, include/uapi/linux/tcp.h)."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..basics import Json

LEGACY = Path("/proc/sys/net/mptcp/mptcp_enabled")  # exists on the out-of-tree v0.9x kernels only
SO_PROTOCOL = 38
IPPROTO_MPTCP = 262
SOL_MPTCP = 284
MPTCP_INFO, MPTCP_TCPINFO, MPTCP_SUBFLOW_ADDRS, MPTCP_FULL_INFO = 1, 2, 3, 4
TCP_IS_MPTCP = 43  # since Linux 6.10; on v0.9x kernels 43 is MPTCP_SCHEDULER, so it is not read there
TCP_INQ = 36  # the option, and the kind of the control message that it asks for
MAX_SUBFLOWS = 64
SOCKADDR_STORAGE = 128
SUBFLOW_READINGS = 5
# Name, struct format, offset in bytes. Newer kernels only append fields, so those beyond the returned length
# are left out.
MPTCP_INFO_FIELDS = (
    ("subflows", "B", 0),
    ("add_addr_signal", "B", 1),
    ("add_addr_accepted", "B", 2),
    ("subflows_max", "B", 3),
    ("add_addr_signal_max", "B", 4),
    ("add_addr_accepted_max", "B", 5),
    ("flags", "I", 8),
    ("token", "I", 12),
    ("write_seq", "Q", 16),
    ("snd_una", "Q", 24),
    ("rcv_nxt", "Q", 32),
    ("local_addr_used", "B", 40),
    ("local_addr_max", "B", 41),
    ("csum_enabled", "B", 42),
    ("retransmits", "I", 44),
    ("bytes_retrans", "Q", 48),
    ("bytes_sent", "Q", 56),
    ("bytes_received", "Q", 64),
    ("bytes_acked", "Q", 72),
    ("subflows_total", "B", 80),
    ("last_data_sent", "I", 84),
    ("last_data_recv", "I", 88),
    ("last_ack_recv", "I", 92),
)
TCP_INFO_FIELDS = (
    ("state", "B", 0),
    ("ca_state", "B", 1),
    ("retransmits", "B", 2),
    ("backoff", "B", 4),
    ("rto_us", "I", 8),
    ("snd_mss", "I", 16),
    ("rcv_mss", "I", 20),
    ("unacked", "I", 24),
    ("lost", "I", 32),
    ("retrans", "I", 36),
    ("last_data_sent_ms", "I", 44),
    ("last_data_recv_ms", "I", 52),
    ("last_ack_recv_ms", "I", 56),
    ("pmtu", "I", 60),
    ("rtt_us", "I", 68),
    ("rttvar_us", "I", 72),
    ("snd_cwnd", "I", 80),
    ("total_retrans", "I", 100),
    ("bytes_acked", "Q", 120),
    ("bytes_received", "Q", 128),
    ("segs_out", "I", 136),
    ("segs_in", "I", 140),
    ("min_rtt_us", "I", 148),
    ("delivery_rate", "Q", 160),
    ("bytes_sent", "Q", 200),
    ("bytes_retrans", "Q", 208),
)
_libc = ctypes.CDLL(None, use_errno=True)


def decode_fields(data: bytes, fields: tuple[tuple[str, str, int], ...]) -> Json:
    """Return the fields of a kernel struct that lie within `data`, by name."""
    return {
        name: struct.unpack_from("=" + form, data, offset)[0]
        for name, form, offset in fields
        if offset + struct.calcsize("=" + form) <= len(data)
    }


def decode_sockaddr(data: bytes) -> tuple[str, int]:
    """Return (address, port) of a sockaddr_in or sockaddr_in6, IPv4-mapped addresses as IPv4.

    The result is ("", 0) for any other family.
    """
    family = struct.unpack_from("=H", data)[0]
    port = struct.unpack_from("!H", data, 2)[0]
    if family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, data[4:8]), port
    if family == socket.AF_INET6:
        return plain_address(socket.inet_ntop(socket.AF_INET6, data[8:24])), port
    return "", 0


def plain_address(address: str) -> str:
    """Return an IPv4-mapped address as IPv4 (192.0.2.1 for ::ffff:192.0.2.1), any other one unchanged."""
    mapped = address.lower().startswith("::ffff:") and "." in address
    return address[7:] if mapped else address


def socket_name(read: Callable[[], Any]) -> tuple[str, int] | None:
    """Call getsockname() or getpeername() and return (address, port), or None if the call fails."""
    try:
        name = read()
    except OSError:
        return None
    return plain_address(name[0]), name[1]


def _getsockopt_into(
    sock: socket.socket, level: int, option: int, buffer: ctypes.Array[ctypes.c_char]
) -> int:
    """Call getsockopt(2) with input in the buffer, as MPTCP's options need; return the length written."""
    length = ctypes.c_uint32(len(buffer))
    if _libc.getsockopt(sock.fileno(), level, option, buffer, ctypes.byref(length)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return length.value


def read_full_info(sock: socket.socket) -> tuple[Json, list[Json]]:
    """Read MPTCP_FULL_INFO (Linux 6.5) and return (mptcp_info, subflows with their tcp_info).

    Raises OSError if the kernel does not have it.
    """
    address_size = 8 + 2 * SOCKADDR_STORAGE  # struct mptcp_subflow_info: id, padding, addresses
    tcp_size = 512  # larger than any kernel's tcp_info: the array's elements then have the kernel's size
    addresses = ctypes.create_string_buffer(address_size * MAX_SUBFLOWS)
    tcp = ctypes.create_string_buffer(tcp_size * MAX_SUBFLOWS)
    head = struct.pack(
        "=6I2Q",
        0,
        tcp_size,
        0,
        address_size,
        0,
        MAX_SUBFLOWS,
        ctypes.addressof(addresses),
        ctypes.addressof(tcp),
    )
    buffer = ctypes.create_string_buffer(head, len(head) + 256)
    length = _getsockopt_into(sock, SOL_MPTCP, MPTCP_FULL_INFO, buffer)
    tcp_kernel, _, address_kernel, _, count, _ = struct.unpack_from("=6I", buffer.raw)
    entries = array_of(addresses.raw, min(address_size, address_kernel), min(count, MAX_SUBFLOWS))
    infos = array_of(tcp.raw, min(tcp_size, tcp_kernel), min(count, MAX_SUBFLOWS))
    subflows = [
        _subflow(struct.unpack_from("=I", entry)[0], entry[8:], decode_fields(info, TCP_INFO_FIELDS))
        for entry, info in zip(entries, infos)
    ]
    return decode_fields(buffer.raw[len(head) : length], MPTCP_INFO_FIELDS), subflows


def array_of(data: bytes, size: int, count: int) -> list[bytes]:
    """Return the first `count` elements, of `size` octets each, of an array that the kernel wrote.

    The caller passes the smaller one of the kernel's size and the agent's size (net/mptcp/sockopt.c,
    mptcp_getsockopt_full_info): tcp_info has 248 octets in Linux 6.12, and more in 6.18.
    """
    return [data[index * size : (index + 1) * size] for index in range(count)]


def read_subflow_addresses(sock: socket.socket) -> list[Json]:
    """Return the subflows' addresses by MPTCP_SUBFLOW_ADDRS (Linux 5.16).

    Raises OSError if the kernel does not have it.
    """
    size = 2 * SOCKADDR_STORAGE
    head = struct.pack("=4I", 16, 0, 0, size)
    buffer = ctypes.create_string_buffer(head, len(head) + size * MAX_SUBFLOWS)
    _getsockopt_into(sock, SOL_MPTCP, MPTCP_SUBFLOW_ADDRS, buffer)
    count = struct.unpack_from("=4I", buffer.raw)[1]
    return [_subflow(None, buffer.raw[16 + i * size : 16 + (i + 1) * size], None) for i in range(count)]


def read_tcp_infos(sock: socket.socket) -> list[Json]:
    """Return the subflows' struct tcp_info by MPTCP_TCPINFO (Linux 5.16); raise OSError without it."""
    size = 512  # as in read_full_info
    head = struct.pack("=4I", 16, 0, 0, size)
    buffer = ctypes.create_string_buffer(head, len(head) + size * MAX_SUBFLOWS)
    _getsockopt_into(sock, SOL_MPTCP, MPTCP_TCPINFO, buffer)
    _, count, kernel_size, _ = struct.unpack_from("=4I", buffer.raw)
    entries = array_of(buffer.raw[len(head) :], min(size, kernel_size), min(count, MAX_SUBFLOWS))
    return [decode_fields(entry, TCP_INFO_FIELDS) for entry in entries]


def _subflow(identity: int | None, addresses: bytes, tcp: Json | None) -> Json:
    local, lport = decode_sockaddr(addresses)
    remote, rport = decode_sockaddr(addresses[SOCKADDR_STORAGE:])
    return {"id": identity, "local": local, "lport": lport, "remote": remote, "rport": rport, "tcp": tcp}


def try_option(read: Callable[[], Any]) -> tuple[Any, int | None]:
    """Call `read` and return (value, None), or (None, errno) if it raises OSError."""
    try:
        return read(), None
    except OSError as error:
        return None, error.errno


_found: set[str] = set()  # options that this kernel has been seen to support


def kernel_has_mptcp_info() -> bool:
    """Return whether the kernel has MPTCP_INFO (Linux 5.16), read from a socket that is not connected.

    Without this check, EOPNOTSUPP can mean a kernel without the option, or a connection that fell back.
    """
    if "mptcp_info" not in _found:
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP) as fresh:
                fresh.getsockopt(SOL_MPTCP, MPTCP_INFO, 256)
        except OSError:
            return False  # not stored, so that it is tried again: MPTCP may be switched off only now
        _found.add("mptcp_info")
    return True


def read_is_mptcp(sock: socket.socket) -> bool | None:
    """Return whether a socket uses MPTCP, or None if the kernel does not report it.

    It reads TCP_IS_MPTCP (Linux 6.10), and without it tries MPTCP_INFO (Linux 5.16).

    Kernels without TCP_IS_MPTCP answer EOPNOTSUPP on an MPTCP connection and ENOPROTOOPT on TCP.
    """
    if LEGACY.exists():
        return None
    if sock.getsockopt(socket.SOL_SOCKET, SO_PROTOCOL) != IPPROTO_MPTCP:
        return False
    flag, _ = try_option(lambda: sock.getsockopt(socket.IPPROTO_TCP, TCP_IS_MPTCP))
    if flag is not None:
        return bool(flag)
    info, _ = try_option(lambda: sock.getsockopt(SOL_MPTCP, MPTCP_INFO, 256))
    return is_mptcp_by_info(info is not None, kernel_has_mptcp_info())


def is_mptcp_by_info(answers: bool, exists: bool) -> bool | None:
    """Return whether a connection is MPTCP, or None if unknown.

    `answers` says that MPTCP_INFO works on its socket, `exists` that the kernel has the option.
    """
    return answers if answers or exists else None


def read_subflows(sock: socket.socket) -> list[Json]:
    """Return the subflows by MPTCP_SUBFLOW_ADDRS and MPTCP_TCPINFO (Linux 5.16); raise OSError without them.

    The kernel walks the same list for both options. If a subflow is added or removed in between, the
    addresses before and after differ, and everything is read again, up to `SUBFLOW_READINGS` times. After
    that, the subflows are returned without tcp_info.
    """
    for _ in range(SUBFLOW_READINGS):
        before, infos = read_subflow_addresses(sock), read_tcp_infos(sock)
        after = read_subflow_addresses(sock)
        if before == after and len(infos) == len(after):
            return [{**subflow, "tcp": info} for subflow, info in zip(after, infos)]
    return after


def socket_facts(sock: socket.socket) -> Json:
    """Return the kernel's facts about a TCP or MPTCP socket; a fact that cannot be read reliably is None."""
    info, info_errno = try_option(
        lambda: decode_fields(sock.getsockopt(SOL_MPTCP, MPTCP_INFO, 256), MPTCP_INFO_FIELDS)
    )
    full, full_errno = try_option(lambda: read_full_info(sock))
    is_mptcp = read_is_mptcp(sock)
    subflows: list[Json] | None
    if full is not None:
        info, subflows = full
    elif is_mptcp:
        subflows = try_option(lambda: read_subflows(sock))[0]
    else:  # a connection that fell back has no subflows; None if the kernel does not report it
        subflows = [] if is_mptcp is False else None
    tcp = try_option(
        lambda: decode_fields(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256), TCP_INFO_FIELDS)
    )
    return {
        "protocol": sock.getsockopt(socket.SOL_SOCKET, SO_PROTOCOL),
        "is_mptcp": is_mptcp,
        "info_errno": info_errno,
        "full_info_errno": full_errno,
        "info": info,
        "subflows": subflows,
        "tcp": tcp[0],
        "inode": os.fstat(sock.fileno()).st_ino,
        "local": socket_name(sock.getsockname),
        "peer": socket_name(sock.getpeername),
        "at": time.monotonic(),
    }


def text_address(raw: bytes) -> str:
    """Return 4 or 16 octets as the text of an IPv4 or IPv6 address."""
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)


def readable_octets(sock: socket.socket) -> Json:
    """Return how many octets wait to be read, by FIONREAD and by TCP_INQ; None where the kernel lacks one.

    Nothing is read. One octet or more must wait, or else TCP_INQ reports None.
    """
    found: Json = {"fionread": None, "tcp_inq": None}
    try:
        answer = fcntl.ioctl(sock, termios.FIONREAD, bytes(4))
        found["fionread"] = struct.unpack("i", answer)[0]
    except OSError:
        pass
    try:
        sock.setsockopt(socket.IPPROTO_TCP, TCP_INQ, 1)
        flags = socket.MSG_PEEK | socket.MSG_DONTWAIT
        messages = sock.recvmsg(1, socket.CMSG_SPACE(4), flags)[1]
    except OSError:
        return found
    for level, kind, data in messages:
        if (level, kind) == (socket.IPPROTO_TCP, TCP_INQ):
            found["tcp_inq"] = struct.unpack("i", data)[0]
    return found
