"""Sockets that do not block, and waits on them that can be ended."""

from __future__ import annotations

import ipaddress
import os
import select
import socket

from .basics import AgentError

IPPROTO_MPTCP = 262  # socket.IPPROTO_MPTCP is Python 3.10


def new_socket(address: str, protocol: str, device: str | None = None) -> socket.socket:
    """A non-blocking stream socket for the address' family; protocol "mptcp" or "tcp"."""
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


def open_listener(address: str, port: int, protocol: str, device: str | None, backlog: int) -> socket.socket:
    """A listening socket on one address, never on a wildcard."""
    if ipaddress.ip_address(address.partition("%")[0]).is_unspecified:
        raise AgentError("wildcard", f"will not listen on {address}: give one of this host's lab addresses")
    sock = new_socket(address, protocol, device)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


class Cancelled(Exception):
    """The stream was closed under a transfer."""


class Waker:
    """Lets threads that wait for a socket be woken to end; once woken it stays so."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self.woken = False

    def wake(self) -> None:
        """End every wait, present and future."""
        self.woken = True
        os.write(self._write, b"x")

    def wait(self, sock: socket.socket, mask: int, timeout: float | None = None) -> bool:
        """Wait until the socket is ready; False when the time is over. Raises Cancelled when woken."""
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        poll.register(sock, mask)
        ready = poll.poll(None if timeout is None else max(0.0, timeout) * 1000)
        if self.woken:
            raise Cancelled
        return bool(ready)

    def pause(self, seconds: float) -> None:
        """Let time pass, none where `seconds` are negative. Raises Cancelled when woken."""
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        poll.poll(max(0.0, seconds) * 1000)  # poll(2) takes a negative time for all the time there is
        if self.woken:
            raise Cancelled

    def close(self) -> None:
        """Give the pipe back."""
        os.close(self._read)
        os.close(self._write)
