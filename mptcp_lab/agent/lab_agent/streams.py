"""Streams (one end of a connection each), and the transfers that run on them."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import select
import socket
import struct
import termios
import threading
import time
from collections.abc import Callable

from .basics import Json, describe_error, read_clock
from .data import BLOCK, Pattern, Timeline
from .sockets import Cancelled, Waker

#: Seconds between two readings of the number of unacknowledged bytes, since no event reports its change.
ACK_POLL_S = 0.001


class Transfer:
    """A thread that moves data over a stream in one direction, or for an echo in both."""

    def __init__(self, stream: Stream, work: Callable[[Transfer], str]) -> None:
        self.stream = stream
        self.timeline = Timeline()
        self.digest = hashlib.sha256()
        self.end = ""  # "complete", "eof", "cancelled" or "error"
        self.error: Json | None = None
        self.done = threading.Event()
        self.finishing = False  # if true, a send ends after its current chunk
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
        """Add transferred data to the timeline and to the digest."""
        self.timeline.add(len(data))
        self.digest.update(data)

    def document(self) -> Json:
        """Return the progress: bytes, time of the last one, and whether the transfer is done."""
        return {
            "nbytes": self.timeline.total,
            "last": self.timeline.last,
            "done": self.done.is_set(),
            "at": time.monotonic(),
        }

    def result(self) -> Json:
        """Return the full result of a transfer that has ended: progress, timeline, digest, end and error."""
        return {
            **self.document(),
            **self.timeline.document(),
            "sha256": self.digest.hexdigest(),
            "end": self.end,
            "error": self.error,
            "clock": read_clock(),
        }


class Stream:
    """One end of a connection that was opened or accepted on this host."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.waker = Waker()
        self.transfers: list[Transfer] = []

    def receive_some(self, limit: int) -> bytes:
        """Return the next data, at most `limit` bytes, or b"" at the end of the stream."""
        while True:
            try:
                return self.sock.recv(limit)
            except BlockingIOError:
                self.waker.wait(self.sock, select.POLLIN)

    def send_some(self, data: memoryview | bytes) -> int:
        """Send as much of `data` as the socket accepts, and return the number of bytes."""
        while True:
            try:
                return self.sock.send(data)
            except BlockingIOError:
                self.waker.wait(self.sock, select.POLLOUT)

    def count_unacknowledged(self) -> int:
        """Return how many sent bytes are not acknowledged (SIOCOUTQ, for MPTCP since Linux 5.17)."""
        return int(struct.unpack("i", fcntl.ioctl(self.sock, termios.TIOCOUTQ, bytes(4)))[0])

    def close(self, reset: bool = False) -> None:
        """End the transfers, then close the socket.

        `reset` closes with RST (SO_LINGER 0), for which MPTCP sends MP_FASTCLOSE.
        """
        self.waker.wake()
        for transfer in self.transfers:
            transfer.done.wait()
        if reset:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()
        self.waker.close()


def next_due(due: float, now: float, interval: float) -> float:
    """Return when the chunk after the one that was due at `due`, and is sent, is due: never at once.

    Half an interval at least is between two chunks, also after one that was sent late. Two that follow each
    other immediately would have MPTCP's scheduler send the second over another path (DIRECT-5).
    """
    return max(due + interval, now + interval / 2)


def start_send(
    stream: Stream,
    nbytes: int,
    seed: int | str = 0,
    chunk: int = BLOCK,
    interval: float = 0.0,
    pattern: str = "random",
    header: str = "",
    acknowledged: bool = False,
) -> Transfer:
    """Start to send `header` (base64), then `nbytes` of the pattern, one chunk per `interval` seconds.

    If `acknowledged`, a chunk is not sent before all earlier ones are acknowledged. The transfer's bytes and
    digest do not include the header. Raises ValueError for a wrong size or pattern.
    """
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
            due = next_due(due, time.monotonic(), interval)
            if interval and transfer.timeline.total < nbytes:
                stream.waker.pause(due - time.monotonic())
            while acknowledged and stream.count_unacknowledged():
                stream.waker.pause(ACK_POLL_S)
        return "complete"

    return Transfer(stream, work)


def start_receive(stream: Stream, nbytes: int | None = None, limit: int = 262144) -> Transfer:
    """Start to receive `nbytes`, or everything until the end of the stream; read at most `limit` at once."""

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
    """Start to send back all received data; at the end of the stream, shut down the sending direction too."""

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
