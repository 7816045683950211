"""Create non-blocking sockets, and wait on them in a way that another thread can cancel."""

from __future__ import annotations

import base64
import ipaddress
import os
import select
import socket
from typing import Any

from .basics import AgentError, Json

#: The address that goes with each shape of a listener on all addresses.
SHAPES = {"wildcard": "0.0.0.0", "dual-stack": "::", "ipv6-only": "::"}  # noqa: S104 (only on request)
IP_TRANSPARENT, IPV6_TRANSPARENT = 19, 75  # include/uapi/linux/in.h, in6.h
IPPROTO_MPTCP = 262  # socket.IPPROTO_MPTCP exists since Python 3.10


def new_socket(address: str, protocol: str, device: str | None = None) -> socket.socket:
    """Return a non-blocking stream socket of the address's family, bound to `device` if given.

    Raises ValueError unless the protocol is "mptcp" or "tcp".
    """
    if protocol not in ("mptcp", "tcp"):
        raise ValueError(f"protocol {protocol!r}: use 'mptcp' or 'tcp'")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(
        family, socket.SOCK_STREAM, IPPROTO_MPTCP if protocol == "mptcp" else socket.IPPROTO_TCP
    )
    sock.setblocking(False)
    if device is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    return sock


def socket_address(address: str, port: int) -> tuple[Any, ...]:
    """Return an address as bind() and connect() take it; an IPv6 one may name its device: fe80::1%eth1."""
    plain, _, device = address.partition("%")
    return (plain, port, 0, socket.if_nametoindex(device)) if device else (address, port)


def set_transparent(sock: socket.socket) -> None:
    """Let a socket have addresses that are not the host's, as a transparent proxy needs."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)


def open_listener(
    address: str,
    port: int,
    protocol: str,
    device: str | None,
    backlog: int,
    shape: str = "",
    transparent: bool = False,
) -> socket.socket:
    """Return a listening socket on one address, or on all addresses if `shape` asks for it.

    `shape` is "wildcard" (address 0.0.0.0), "dual-stack" or "ipv6-only" (address ::). A `transparent` socket
    accepts connections to addresses that are not the host's. Raises AgentError "wildcard" for an unspecified
    address without its shape, and for a shape with another address.
    """
    is_unspecified = ipaddress.ip_address(address.partition("%")[0]).is_unspecified
    if is_unspecified != bool(shape) or SHAPES.get(shape, address) != address:
        raise AgentError(
            "wildcard",
            f"will not listen on {address} with shape {shape!r}: give one of this host's lab addresses, "
            "or 0.0.0.0 with wildcard, or :: with dual-stack or ipv6-only",
        )
    sock = new_socket(address, protocol, device)
    try:
        if address == "::":
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(shape == "ipv6-only"))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if transparent:
            set_transparent(sock)
        sock.bind(socket_address(address, port))
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def try_options(sock: socket.socket, options: list[list[Any]]) -> list[Json]:
    """Set each option `[level, option, octets in base64]` of a socket, and read it back.

    The results have `set_errno` and `get_errno` (null where the kernel agreed), and in hexadecimal the value
    that was read: `before` the option was set, and `after`.
    """
    found = []
    for level, option, value in options:
        octets = base64.b64decode(value)
        entry: Json = {"before": _read_option(sock, level, option, len(octets))[0], "set_errno": None}
        try:
            sock.setsockopt(level, option, octets)
        except OSError as error:
            entry["set_errno"] = error.errno
        entry["after"], entry["get_errno"] = _read_option(sock, level, option, len(octets))
        found.append(entry)
    return found


def _read_option(sock: socket.socket, level: int, option: int, size: int) -> tuple[str | None, int | None]:
    try:
        return sock.getsockopt(level, option, size).hex(), None
    except OSError as error:
        return None, error.errno


class Cancelled(Exception):
    """The stream was closed during a transfer."""


class Waker:
    """Wakes all threads that wait on a socket, so that they end; it cannot be reset."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self.woken = False

    def wake(self) -> None:
        """End every wait, now and in the future, with Cancelled."""
        self.woken = True
        os.write(self._write, b"x")

    def wait(self, sock: socket.socket, mask: int, timeout: float | None = None) -> bool:
        """Wait until the socket is ready; return False when the time is over. Raises Cancelled when woken."""
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        poll.register(sock, mask)
        ready = poll.poll(None if timeout is None else max(0.0, timeout) * 1000)
        if self.woken:
            raise Cancelled
        return bool(ready)

    def pause(self, seconds: float) -> None:
        """Sleep for `seconds`, not at all if they are negative. Raises Cancelled when woken."""
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        poll.poll(max(0.0, seconds) * 1000)  # for poll(2) a negative timeout means to wait forever
        if self.woken:
            raise Cancelled

    def close(self) -> None:
        """Close the pipe."""
        os.close(self._read)
        os.close(self._write)
