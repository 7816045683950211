"""Open connections: accept them with a listener, or connect to an address."""

from __future__ import annotations

import collections
import contextlib
import errno
import os
import select
import socket
import threading
import time
from typing import Any

from .basics import AgentError, patient
from .faults.plan import MANAGEMENT
from .kernel.socket_facts import plain_address
from .sockets import Cancelled, Waker, new_socket, socket_address
from .streams import Stream


class Listener:
    """A listening socket with a thread that accepts connections and queues them.

    With `hold` the thread accepts nothing until `release` is called.
    """

    def __init__(self, sock: socket.socket, hold: bool) -> None:
        self.sock = sock
        self.accepted = 0
        self._queue: collections.deque[tuple[Stream, Any, float]] = collections.deque()
        self._changed = threading.Condition()
        self._waker = Waker()
        self._go = threading.Event()
        if not hold:
            self._go.set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Begin to accept on a listener that was opened with `hold`."""
        self._go.set()

    def _run(self) -> None:
        self._go.wait()
        with contextlib.suppress(Cancelled):
            while True:
                self._waker.wait(self.sock, select.POLLIN)
                with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
                    sock, peer = self.sock.accept()
                    if plain_address(sock.getsockname()[0]) in MANAGEMENT:
                        Stream(sock).close(reset=True)  # the listener is on all addresses, the lab is not
                        continue
                    with self._changed:
                        self.accepted += 1
                        self._queue.append((Stream(sock), peer, time.monotonic()))
                        self._changed.notify_all()

    def take(self, within: float) -> tuple[Stream, Any, float]:
        """Return the next accepted connection as (stream, peer, monotonic time of the accept).

        Raises AgentError "timeout" if there is none within `within` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._queue, patient(within)):
                raise AgentError(
                    "timeout", f"no connection to accept within {patient(within):g} s", errno.ETIMEDOUT
                )
            return self._queue.popleft()

    def close(self) -> None:
        """Stop listening, and reset the connections that are still in the queue."""
        self._waker.wake()
        self._go.set()
        self._thread.join()
        self.sock.close()
        self._waker.close()
        for stream, _, _ in self._queue:
            stream.close(reset=True)


def connect(
    address: str, port: int, protocol: str, source: str | None, device: str | None, within: float
) -> tuple[Stream, float]:
    """Connect to an address within `within` seconds, and return (stream, seconds that it took).

    Raises AgentError "connect" with seconds and errno; ETIMEDOUT also when the time is over.
    """
    started = time.monotonic()
    try:
        sock = new_socket(address, protocol, device)
        try:
            if source is not None:
                sock.bind(socket_address(source, 0))
            number = sock.connect_ex(socket_address(address, port))
            if number == errno.EINPROGRESS:
                poll = select.poll()
                poll.register(sock, select.POLLOUT)
                finished = poll.poll(patient(within) * 1000)
                number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if finished else errno.ETIMEDOUT
            if number:
                raise OSError(number, os.strerror(number))
        except BaseException:
            sock.close()
            raise
    except OSError as error:
        seconds = time.monotonic() - started
        code = error.errno or 0
        way = f"from {source or 'any'} to {address} port {port}"
        message = f"{errno.errorcode.get(code, code)} after {seconds:.3f} s, {way}"
        raise AgentError("connect", message, code, seconds=seconds) from None
    return Stream(sock), time.monotonic() - started
