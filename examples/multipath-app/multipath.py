#!/usr/bin/env python3
"""Multipath at the application's level: a byte stream each way over several ordinary TCP connections.

    python3 multipath.py listen 198.18.10.32 7000 < theirs > copy-of-ours
    python3 multipath.py connect 198.18.1.21:7000 198.18.2.22:7000 < ours > copy-of-theirs

Each connection may go through a separate proxy. The streams are whole as long as one connection works. An
end that has nothing to send reads /dev/null.

Framing: kind (1 octet), offset (8) and length (4), then the data. A data frame of length 0 ends a stream. The
receiver answers every data frame with its offset, on the connection that it came by.
Ordering: the receiver holds frames back until those before them have come, and drops what comes twice.
Scheduling: a connection takes the next frame when it has room for it, so a faster one takes more.
Resuming: when a connection breaks, leaves a frame unanswered for a second, or is silent for a second, its
frames go over the others. The connecting end opens it again as soon as that works.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
import struct
import sys
import time
from typing import BinaryIO

HEADER = struct.Struct("!BQI")
DATA, ANSWER, ALIVE = range(3)
FRAME_BYTES = 32 * 1024
WINDOW_BYTES = 4 * 1024 * 1024  # the most that the receiver ever holds back
SEND_BUFFER_BYTES = 128 * 1024  # small: what waits in a slow connection cannot go over a faster one
PATIENCE_SECONDS = 1.0  # an unanswered frame, or silence, means a dead connection
ALIVE_SECONDS = 0.25
RETRY_SECONDS = 0.2
GIVE_UP_SECONDS = 30.0


class Sender:
    """A stream on its way out."""

    def __init__(self) -> None:
        self.ready: asyncio.PriorityQueue[tuple[int, bytes]] = asyncio.PriorityQueue()  # lowest offset first
        self._unanswered: set[int] = set()
        self._answered = asyncio.Event()

    async def send(self, source: BinaryIO) -> None:
        """Hand over everything; raise TimeoutError when no connection works for too long."""
        offset, data = 0, b"begin"
        while data:
            data = await asyncio.to_thread(source.read, FRAME_BYTES)
            await self._wait_for_answers(offset - WINDOW_BYTES)
            self._unanswered.add(offset)
            self.ready.put_nowait((offset, data))
            offset += len(data)
        await self._wait_for_answers(offset)

    async def _wait_for_answers(self, offset: int) -> None:
        """Wait until every frame up to this offset is answered."""
        while self._unanswered and min(self._unanswered) <= offset:
            self._answered.clear()
            async with asyncio.timeout(GIVE_UP_SECONDS):
                await self._answered.wait()

    def note_answer(self, offset: int) -> None:
        """Note that the frame with this offset has arrived."""
        self._unanswered.discard(offset)
        self._answered.set()


class Receiver:
    """A stream that comes in, its frames in any order."""

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self._held: dict[int, bytes] = {}
        self._next = 0
        self.ended = asyncio.Event()

    def take(self, offset: int, data: bytes) -> None:
        """Write this frame, and those that waited for it, or hold it back."""
        if offset >= self._next:
            self._held[offset] = data
        while self._next in self._held and not self.ended.is_set():
            data = self._held.pop(self._next)
            self._sink.write(data)
            self._next += len(data)
            if not data:
                self._sink.flush()
                self.ended.set()


class Connection:
    """One TCP connection, which carries frames of both streams until it is lost."""

    def __init__(self, end: End, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._end, self._reader, self._writer = end, reader, writer
        self._under_way: dict[int, tuple[bytes, float]] = {}  # by offset: the data, and when it was sent
        self._last_answer = 0.0
        sock: socket.socket = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        writer.transport.set_write_buffer_limits(high=FRAME_BYTES)

    async def carry(self, name: str) -> None:
        """Carry frames until the connection is lost; leave those without an answer to other connections."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for work in (self._send_frames(), self._read_frames(), self._keep_alive()):
                    tasks.create_task(work)
        except* (OSError, EOFError, TimeoutError) as lost:
            if not self._end.is_over:
                frames = len(self._under_way)
                print(f"{name}: {lost.exceptions[0]!r}, {frames} frames go elsewhere", file=sys.stderr)
        finally:
            self._writer.transport.abort()
            for offset, (data, _) in self._under_way.items():
                self._end.sender.ready.put_nowait((offset, data))

    async def _send_frames(self) -> None:
        while True:
            offset, data = await self._end.sender.ready.get()
            self._under_way[offset] = data, time.monotonic()
            self._writer.write(HEADER.pack(DATA, offset, len(data)) + data)
            await self._writer.drain()

    async def _read_frames(self) -> None:
        while True:
            async with asyncio.timeout(PATIENCE_SECONDS):
                kind, offset, length = HEADER.unpack(await self._reader.readexactly(HEADER.size))
                data = await self._reader.readexactly(length)
            if kind == DATA:
                self._end.receiver.take(offset, data)
                self._writer.write(HEADER.pack(ANSWER, offset, 0))
            elif kind == ANSWER:
                self._last_answer = time.monotonic()
                self._under_way.pop(offset, None)
                self._end.sender.note_answer(offset)

    async def _keep_alive(self) -> None:
        """Show the other end that the connection works; raise TimeoutError when answers stay away."""
        while True:
            self._writer.write(HEADER.pack(ALIVE, 0, 0))
            await asyncio.sleep(ALIVE_SECONDS)
            oldest = min((sent for _, sent in self._under_way.values()), default=None)
            if oldest is not None:
                since = max(oldest, self._last_answer)
                if time.monotonic() - since > PATIENCE_SECONDS:
                    raise TimeoutError("no answer")


class End:
    """One end of the two streams."""

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self.sender, self.receiver = Sender(), Receiver(sink)
        self._source = source
        self.is_over = False  # both streams are whole

    async def _finish(self) -> None:
        """Return when both streams are whole."""
        await self.sender.send(self._source)
        await self.receiver.ended.wait()
        self.is_over = True
        await asyncio.sleep(PATIENCE_SECONDS)  # an answer that got lost is asked for again

    async def listen(self, host: str, port: int) -> None:
        """Accept connections until both streams have ended."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(asyncio.CancelledError):  # the program ends, and asyncio would print it
                await Connection(self, reader, writer).carry(writer.get_extra_info("peername")[0])

        server = await asyncio.start_server(serve, host, port)
        await self._finish()
        server.close()

    async def connect(self, paths: list[tuple[str, int]]) -> None:
        """Keep a connection open on each path until both streams have ended."""
        tasks = [asyncio.create_task(self._keep_open(path)) for path in paths]
        try:
            await self._finish()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep_open(self, path: tuple[str, int]) -> None:
        """Open a connection, let it carry frames, and begin again when it is lost."""
        while not self.is_over:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(PATIENCE_SECONDS):
                    reader, writer = await asyncio.open_connection(*path)
                await Connection(self, reader, writer).carry(path[0])
            await asyncio.sleep(RETRY_SECONDS)


def address(text: str) -> tuple[str, int]:
    """Return (host, port) of ``HOST:PORT``."""
    host, _, port = text.rpartition(":")
    return host, int(port)


def main() -> None:
    """Read the command line, and be one end of the streams."""
    parser = argparse.ArgumentParser(description="a stream each way over several TCP connections")
    commands = parser.add_subparsers(dest="command", required=True)
    connecting = commands.add_parser("connect", help="open a connection on each path")
    connecting.add_argument("path", nargs="+", type=address, metavar="HOST:PORT")
    listening = commands.add_parser("listen", help="accept the connections of the other end")
    listening.add_argument("host")
    listening.add_argument("port", type=int)
    arguments = parser.parse_args()
    try:
        end = End(sys.stdin.buffer, sys.stdout.buffer)
        if arguments.command == "connect":
            asyncio.run(end.connect(arguments.path))
        else:
            asyncio.run(end.listen(arguments.host, arguments.port))
    except TimeoutError:
        sys.exit(f"no connection worked for {GIVE_UP_SECONDS:g} s: is the other end there, and a way to it?")
    except OSError as error:
        sys.exit(f"{error}: check the address to listen on")


if __name__ == "__main__":
    main()
