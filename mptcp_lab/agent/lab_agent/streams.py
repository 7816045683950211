"""Connections, and the transfers that run on them."""

from __future__ import annotations

import base64
import hashlib
import select
import socket
import struct
import threading
import time
from collections.abc import Callable

from .basics import Json, describe_error, read_clock
from .data import BLOCK, Pattern, Timeline
from .sockets import Cancelled, Waker


class Transfer:
    """Data moving one way over a stream (or both, for echo) in a thread of its own."""

    def __init__(self, stream: Stream, work: Callable[[Transfer], str]) -> None:
        self.stream = stream
        self.timeline = Timeline()
        self.digest = hashlib.sha256()
        self.end = ""  # "complete", "eof", "cancelled" or "error"
        self.error: Json | None = None
        self.done = threading.Event()
        self.finishing = False  # a send ends after the chunk it is at
        self._work = work
        self._thread = threading.Thread(target=self._run, daemon=True)
        stream.transfers.append(self)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.end = self._work(self)
        except Cancelled:
            self.end = "cancelled"
        except Exception as error:
            self.end, self.error = "error", describe_error(error)
        self.done.set()

    def count(self, data: bytes) -> None:
        """Account for data that passed."""
        self.timeline.add(len(data))
        self.digest.update(data)

    def document(self) -> Json:
        """The result, or how far it is."""
        return {
            "nbytes": self.timeline.total,
            "last": self.timeline.last,
            "done": self.done.is_set(),
            "at": time.monotonic(),
        }

    def result(self) -> Json:
        """Everything about a transfer that has ended."""
        return {
            **self.document(),
            **self.timeline.document(),
            "sha256": self.digest.hexdigest(),
            "end": self.end,
            "error": self.error,
            "clock": read_clock(),
        }


class Stream:
    """One connection, made or accepted."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.waker = Waker()
        self.transfers: list[Transfer] = []

    def receive_some(self, limit: int) -> bytes:
        """The next data, at most `limit` bytes; b"" at the end of the stream."""
        while True:
            try:
                return self.sock.recv(limit)
            except BlockingIOError:
                self.waker.wait(self.sock, select.POLLIN)

    def send_some(self, data: memoryview | bytes) -> int:
        """Send what fits and return how much that was."""
        while True:
            try:
                return self.sock.send(data)
            except BlockingIOError:
                self.waker.wait(self.sock, select.POLLOUT)

    def close(self, reset: bool = False) -> None:
        """End the transfers, then close; `reset` closes with RST (SO_LINGER 0; MPTCP sends MP_FASTCLOSE)."""
        self.waker.wake()
        for transfer in self.transfers:
            transfer.done.wait()
        if reset:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()
        self.waker.close()


def start_send(
    stream: Stream,
    nbytes: int,
    seed: int | str = 0,
    chunk: int = BLOCK,
    interval: float = 0.0,
    pattern: str = "random",
    header: str = "",
) -> Transfer:
    """Send `header` (base64, not counted), then `nbytes` of pattern, one chunk per `interval` seconds."""
    if chunk < 1 or nbytes < 0:
        raise ValueError("chunk must be at least 1 and nbytes at least 0")
    source = Pattern(seed, pattern)

    def work(transfer: Transfer) -> str:
        head = memoryview(base64.b64decode(header))
        while head:
            head = head[stream.send_some(head) :]
        due = time.monotonic()
        while transfer.timeline.total < nbytes and not transfer.finishing:
            piece = source.read(transfer.timeline.total, min(chunk, nbytes - transfer.timeline.total))
            rest = memoryview(piece)
            while rest:
                sent = stream.send_some(rest)
                transfer.count(bytes(rest[:sent]))
                rest = rest[sent:]
            due = max(due + interval, time.monotonic())  # what is late is not made up for by a burst
            if interval and transfer.timeline.total < nbytes:
                stream.waker.pause(due - time.monotonic())
        return "complete"

    return Transfer(stream, work)


def start_receive(stream: Stream, nbytes: int | None = None, limit: int = 262144) -> Transfer:
    """Receive `nbytes`, or everything until the end of the stream."""

    def work(transfer: Transfer) -> str:
        while nbytes is None or transfer.timeline.total < nbytes:
            wanted = limit if nbytes is None else min(limit, nbytes - transfer.timeline.total)
            data = stream.receive_some(wanted)
            if not data:
                return "eof"
            transfer.count(data)
        return "complete"

    return Transfer(stream, work)


def start_echo(stream: Stream) -> Transfer:
    """Send back what arrives until the end of the stream, then end the other direction too."""

    def work(transfer: Transfer) -> str:
        while True:
            data = stream.receive_some(BLOCK)
            if not data:
                stream.sock.shutdown(socket.SHUT_WR)
                return "eof"
            transfer.count(data)
            rest = memoryview(data)
            while rest:
                rest = rest[stream.send_some(rest) :]

    return Transfer(stream, work)
