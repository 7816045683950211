"""Open thousands of short connections in one thread."""

from __future__ import annotations

import collections
import errno
import hashlib
import os
import selectors
import socket
import time

from .basics import Json
from .data import BLOCK
from .kernel.socket_facts import read_is_mptcp
from .sockets import new_socket


class Short:
    """A short connection: it sends a message, reads the answer, sends FIN, and reads to the end."""

    def __init__(self, sock: socket.socket, message: bytes) -> None:
        self.sock = sock
        self.out = memoryview(message)
        self.got = 0
        self.digest = hashlib.sha256()
        self.ended = False
        self.finished = False
        self.is_mptcp: bool | None = None

    def step(self) -> None:
        """Send or receive once, as far as the socket allows; raise OSError if the connection fails."""
        if self.out:
            self.out = self.out[self.sock.send(self.out) :]
            return
        data = self.sock.recv(BLOCK)
        self.ended = not data
        self.got += len(data)
        self.digest.update(data)

    def finish(self) -> None:
        """Record whether the connection is MPTCP, and shut down the sending direction."""
        self.is_mptcp = read_is_mptcp(self.sock)
        self.sock.shutdown(socket.SHUT_WR)
        self.finished = True


class Many:
    """A batch of short connections in one thread, at most `concurrent` at a time.

    Each one sends `message` and expects an answer of `expect` bytes. With `hold`, no connection ends before
    all have received their answer.
    """

    def __init__(self, message: bytes, expect: int, concurrent: int, hold: bool) -> None:
        self._message, self._expect = message, expect
        self._concurrent, self._hold = concurrent, hold
        self._selector = selectors.DefaultSelector()
        self._open: set[Short] = set()
        self._held: list[Short] = []
        self._most_open = self._completed = self._mptcp = self._unknown = 0
        self._failed: collections.Counter[str] = collections.Counter()
        self._digests: collections.Counter[str] = collections.Counter()

    def run(self, count: int, timeout: float, to: tuple[str, int], protocol: str, source: str | None) -> Json:
        """Open `count` connections to the address `to`, and return the counts of their results.

        When no socket is ready until `timeout` seconds have passed, the remaining ones count as ETIMEDOUT.
        """
        started = time.monotonic()
        begun = 0
        while self._completed + sum(self._failed.values()) < count:
            while begun < count and len(self._open) < self._concurrent:
                begun += 1
                self._begin(to, protocol, source)
            ready = self._selector.select(max(0.0, started + timeout - time.monotonic()))
            if not ready and self._open:
                self._give_up(count - begun)
                break
            for key, _ in ready:
                self._step(key.data)
            if begun == count and len(self._held) == len(self._open):
                self._release()
        self._selector.close()
        return {
            "completed": self._completed,
            "failed": dict(self._failed),
            "mptcp": None if self._unknown else self._mptcp,
            "most_open": self._most_open,
            "digests": dict(self._digests),
            "seconds": time.monotonic() - started,
        }

    def _begin(self, to: tuple[str, int], protocol: str, source: str | None) -> None:
        sock = new_socket(to[0], protocol)
        try:
            if source is not None:
                sock.bind((source, 0))
            number = sock.connect_ex(to)
            if number not in (0, errno.EINPROGRESS):
                raise OSError(number, os.strerror(number))
        except OSError as error:
            sock.close()
            self._failed[errno.errorcode.get(error.errno or 0, str(error))] += 1
            return
        short = Short(sock, self._message)
        self._open.add(short)
        self._most_open = max(self._most_open, len(self._open))
        self._selector.register(sock, selectors.EVENT_WRITE, short)

    def _step(self, short: Short) -> None:
        try:
            sending = bool(short.out)
            short.step()
            if sending and not short.out:
                self._selector.modify(short.sock, selectors.EVENT_READ, short)
            if short.ended:
                self._end(short, "" if short.got == self._expect else "CUT")
            elif short.got >= self._expect and not short.finished:
                self._finish_or_hold(short)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(short, errno.errorcode.get(error.errno or 0, str(error)))

    def _finish_or_hold(self, short: Short) -> None:
        if self._hold:
            self._selector.unregister(short.sock)
            self._held.append(short)
        else:
            short.finish()

    def _release(self) -> None:
        """End all connections that were held."""
        held, self._held = self._held, []
        for short in held:
            self._selector.register(short.sock, selectors.EVENT_READ, short)
            try:
                short.finish()
            except OSError as error:
                self._end(short, errno.errorcode.get(error.errno or 0, str(error)))

    def _end(self, short: Short, problem: str) -> None:
        self._selector.unregister(short.sock)
        if not (problem or short.finished):
            short.is_mptcp = read_is_mptcp(short.sock)
        short.sock.close()
        self._open.discard(short)
        if problem:
            self._failed[problem] += 1
        else:
            self._completed += 1
            self._mptcp += bool(short.is_mptcp)
            self._unknown += short.is_mptcp is None
            self._digests[short.digest.hexdigest()] += 1

    def _give_up(self, not_begun: int) -> None:
        self._failed["ETIMEDOUT"] += len(self._open) + not_begun
        for short in self._open:
            short.sock.close()
