"""Create non-blocking sockets, and wait on them in a way that another thread can cancel."""

from __future__ import annotations

import ipaddress
import os
import select
import socket

from .basics import AgentError

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


def open_listener(address: str, port: int, protocol: str, device: str | None, backlog: int) -> socket.socket:
    """Return a listening socket on one address; raise AgentError "wildcard" for the unspecified address."""
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
