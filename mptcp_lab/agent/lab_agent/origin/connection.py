"""One connection of the origin service, and its record."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import selectors
import socket
import time

from ..basics import Json
from ..data import BLOCK, Pattern, Timeline
from ..kernel.socket_facts import SO_PROTOCOL, read_is_mptcp, socket_facts, socket_name
from .greeting import BadStart, Incomplete, parse_greeting, parse_length, parse_pace, parse_proxy_header

BACKLOG_BYTES = 262144  # an echo stops reading when so many bytes wait to be sent back


class OriginConnection:
    """An accepted connection and its record."""

    def __init__(self, number: int, listener: Json, sock: socket.socket, paused: bool, peer: str) -> None:
        sock.setblocking(False)
        self.number = number
        self.peer = peer
        self.sock = sock
        self.paused = paused
        self.open = True
        self.events = 0
        self.mode = ""
        self.tag = ""
        self.received = Timeline()
        self.sent = Timeline()
        self.record: Json = {
            "number": number,
            "listener": [listener["address"], listener["port"]],
            "peer": socket_name(sock.getpeername),
            "local": socket_name(sock.getsockname),
            "protocol": sock.getsockopt(socket.SOL_SOCKET, SO_PROTOCOL),
            "is_mptcp": read_is_mptcp(sock),
            "opened": time.monotonic(),
            "proxy": None,
            "end": None,
            "error": None,
            "facts": None,
        }
        self._proxy = bool(listener.get("proxy_protocol"))
        self._start: bytes | None = b""  # the bytes received up to the end of the greeting; None afterwards
        self._received_digest = hashlib.sha256()
        self._sent_digest = hashlib.sha256()
        self._out = bytearray()
        self.due = 0.0  # monotonic time before which the next chunk of the pattern is not sent
        self._to_send = 0
        self._chunk = BLOCK
        self._interval = 0.0
        self._pattern = Pattern(0, "zero")
        self._eof = False
        self._answered = False
        self._shut = False

    @property
    def is_greeted(self) -> bool:
        """Return whether the client has sent its whole greeting."""
        return self._start is None

    @property
    def is_paced(self) -> bool:
        """Return whether the connection has a chunk to send that is not yet due."""
        return not self._out and self._to_send > 0 and time.monotonic() < self.due

    def wanted_events(self) -> int:
        """Return the selector events that the connection waits for."""
        read = not self._eof and not self.paused and len(self._out) < BACKLOG_BYTES
        write = bool(self._out) or (self._to_send > 0 and not self.is_paced)
        return (selectors.EVENT_READ if read else 0) | (selectors.EVENT_WRITE if write else 0)

    def handle(self, mask: int) -> None:
        """Read and write once, as far as `mask` allows; close when both directions have ended.

        Every error closes this connection and is written to its record; none is raised.
        """
        try:
            if mask & selectors.EVENT_READ:
                self._read()
            if mask & selectors.EVENT_WRITE:
                self._write()
            self._finish()
        except BlockingIOError:
            return
        except BadStart as problem:
            self.close("bad-start", str(problem))
        except OSError as error:
            self.close("error", errno.errorcode.get(error.errno or 0, str(error)))
        except Exception as error:  # an error that one client causes must not end the service for the others
            self.close("error", f"{type(error).__name__}: {error}")

    def _read(self) -> None:
        data = self.sock.recv(BACKLOG_BYTES)
        if not data:
            self._eof = True
        elif self._start is not None:
            self._begin(self._start + data)
        else:
            self._take(data)

    def _begin(self, data: bytes) -> None:
        """Parse the PROXY header and the greeting as soon as they are complete."""
        self._start = data
        try:
            if self._proxy:
                self.record["proxy"], length = parse_proxy_header(data)
                self._proxy = False
                data = self._start = data[length:]
            self.mode, self.tag, options, length = parse_greeting(data)
        except Incomplete:
            return
        except ValueError as error:
            raise BadStart(str(error)) from None
        self._start = None
        if self.mode in ("source", "duplex"):
            try:
                self._to_send = parse_length(options.get("bytes", "0"))
                self._pattern = Pattern(options.get("seed", "0"), options.get("pattern", "random"))
                self._chunk, self._interval = parse_pace(options)
            except ValueError as error:
                raise BadStart(str(error)) from None
        if data[length:]:
            self._take(data[length:])

    def _take(self, data: bytes) -> None:
        self.received.add(len(data))
        self._received_digest.update(data)
        if self.mode == "echo":
            self._out += data

    def _write(self) -> None:
        if not self._out and self._to_send > 0 and not self.is_paced:
            self._out += self._pattern.read(self.sent.total, min(self._chunk, self._to_send))
            self._to_send -= len(self._out)
            self.due = time.monotonic() + self._interval
        if self._out:
            count = self.sock.send(self._out)
            self.sent.add(count)
            self._sent_digest.update(self._out[:count])
            del self._out[:count]

    def _finish(self) -> None:
        """Shut down the sending direction when all is sent, and close when both directions have ended."""
        if self.mode == "sink" and self._eof and not self._answered:
            self._answered = True
            summary = {"bytes": self.received.total, "sha256": self._received_digest.hexdigest()}
            self._out += json.dumps(summary).encode() + b"\n"
        sends_until_eof = self.mode != "source"
        if self._out or self._to_send or (sends_until_eof and not self._eof):
            return
        if not self._shut:
            self._shut = True
            self.record["facts"] = socket_facts(self.sock)
            self.sock.shutdown(socket.SHUT_WR)
        if self._eof:
            self.close("eof", None)

    def stop_sending(self) -> None:
        """End the pattern after the chunk that is being sent, as if no more had been asked for."""
        self._to_send = 0
        self.handle(0)

    def close(self, end: str, error: str | None) -> None:
        """Complete the record with `end`, `error`, socket facts and time, and close the socket."""
        with contextlib.suppress(OSError):  # close the socket even if the kernel has no more facts about it
            self.record["facts"] = self.record["facts"] or socket_facts(self.sock)
        self.record.update(end=end, error=error, closed=time.monotonic())
        self.sock.close()
        self.open = False
        self._pattern = Pattern(0, "zero")  # frees its last block: thousands of closed connections are kept

    def forget_timeline(self) -> None:
        """Drop the points of both timelines to save memory; the gaps stay."""
        self.received.points.clear()
        self.sent.points.clear()

    def document(self, timeline: bool) -> Json:
        """Return the record as a JSON object, with the points of the timelines if `timeline`."""
        received, sent = self.received.document(), self.sent.document()
        if not timeline:
            received["timeline"] = sent["timeline"] = []
        return {
            **self.record,
            "mode": self.mode,
            "tag": self.tag,
            "open": self.open,
            "paused": self.paused,
            "bytes_received": self.received.total,
            "bytes_sent": self.sent.total,
            "sha256_received": self._received_digest.hexdigest(),
            "sha256_sent": self._sent_digest.hexdigest(),
            "received": received,
            "sent": sent,
        }
