#!/usr/bin/env python3
"""Multipath at the application's level: one ordered stream of bytes over several ordinary TCP connections.

    python3 multipath.py receive 198.18.10.32 7000 > copy
    python3 multipath.py send 198.18.1.21:7000 198.18.2.22:7000 < original

Each connection may go through a proxy of its own. The stream is whole as long as one of them works.

Framing: offset (8 octets) and length (4 octets), then the data; length 0 is the end of the stream. The
receiver answers every frame with its offset, on the connection that it came by.
Ordering: the receiver holds frames back until those before them have come, and drops what comes twice.
Scheduling: a connection takes the next frame when it has room for it, so a faster one takes more.
Resuming: when a connection breaks, or leaves its frames unanswered for a second, these go over the others,
and it is opened again as soon as that works.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import struct
import sys
from typing import BinaryIO

HEADER, ANSWER = struct.Struct("!QI"), struct.Struct("!Q")
FRAME_BYTES = 32 * 1024
WINDOW_BYTES = 4 * 1024 * 1024  # the most that the receiver ever holds back
SEND_BUFFER_BYTES = 128 * 1024  # small: what waits in a slow connection cannot go over a faster one
PATIENCE_SECONDS = 1.0  # an unanswered frame means a dead connection
RETRY_SECONDS = 0.2
GIVE_UP_SECONDS = 30.0

Frame = tuple[int, bytes]  # offset in the stream, data


class Sender:
    """A stream on its way out over several connections."""

    def __init__(self) -> None:
        self._ready: asyncio.PriorityQueue[Frame] = asyncio.PriorityQueue()  # lowest offset first
        self._unanswered: set[int] = set()
        self._answered = asyncio.Event()

    async def send(self, source: BinaryIO, paths: list[tuple[str, int]]) -> None:
        """Send everything; raise TimeoutError when no connection works for too long."""
        tasks = [asyncio.create_task(self._keep_open(path)) for path in paths]
        try:
            offset, data = 0, b"begin"
            while data:
                data = await asyncio.to_thread(source.read, FRAME_BYTES)
                await self._wait_for_answers(offset - WINDOW_BYTES)
                self._unanswered.add(offset)
                self._ready.put_nowait((offset, data))
                offset += len(data)
            await self._wait_for_answers(offset)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _wait_for_answers(self, offset: int) -> None:
        """Wait until every frame up to this offset is answered."""
        while self._unanswered and min(self._unanswered) <= offset:
            self._answered.clear()
            async with asyncio.timeout(GIVE_UP_SECONDS):
                await self._answered.wait()

    async def _keep_open(self, path: tuple[str, int]) -> None:
        """Open a connection, send what it has room for, and begin again when it is lost."""
        while True:
            under_way: dict[int, bytes] = {}
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    reader, writer = await asyncio.open_connection(*path)
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._send_frames(writer, under_way))
                    both.create_task(self._read_answers(reader, writer, under_way))
            except* (OSError, EOFError, TimeoutError) as lost:
                print(
                    f"{path[0]}: {lost.exceptions[0]!r}, {len(under_way)} frames go elsewhere",
                    file=sys.stderr,
                )
            for frame in under_way.items():
                self._ready.put_nowait(frame)
            await asyncio.sleep(RETRY_SECONDS)

    async def _send_frames(self, writer: asyncio.StreamWriter, under_way: dict[int, bytes]) -> None:
        sock: socket.socket = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        writer.transport.set_write_buffer_limits(high=FRAME_BYTES)
        while True:
            offset, data = await self._ready.get()
            under_way[offset] = data
            writer.write(HEADER.pack(offset, len(data)) + data)
            await writer.drain()

    async def _read_answers(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, under_way: dict[int, bytes]
    ) -> None:
        try:
            while True:
                had = set(under_way)
                try:
                    async with asyncio.timeout(PATIENCE_SECONDS):
                        answer = await reader.readexactly(ANSWER.size)
                except TimeoutError:
                    if had & set(under_way):  # none of these was answered all the time
                        raise
                    continue
                (offset,) = ANSWER.unpack(answer)
                under_way.pop(offset, None)
                self._unanswered.discard(offset)
                self._answered.set()
        finally:
            writer.transport.abort()


class Receiver:
    """A stream that comes in over any number of connections."""

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self._held: dict[int, bytes] = {}
        self._next = 0
        self._ended = asyncio.Event()

    async def receive(self, host: str, port: int) -> None:
        """Accept connections until the stream has ended."""
        server = await asyncio.start_server(self._serve, host, port)
        await self._ended.wait()
        await asyncio.sleep(PATIENCE_SECONDS)  # an answer that got lost is asked for again
        server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                offset, length = HEADER.unpack(await reader.readexactly(HEADER.size))
                self._take(offset, await reader.readexactly(length))
                writer.write(ANSWER.pack(offset))
                await writer.drain()
        except (OSError, EOFError):  # the sender sends what got lost over another connection
            writer.transport.abort()

    def _take(self, offset: int, data: bytes) -> None:
        if offset >= self._next:
            self._held[offset] = data
        while self._next in self._held and not self._ended.is_set():
            data = self._held.pop(self._next)
            self._sink.write(data)
            self._next += len(data)
            if not data:
                self._sink.flush()
                self._ended.set()


def address(text: str) -> tuple[str, int]:
    """Return (host, port) of ``HOST:PORT``."""
    host, _, port = text.rpartition(":")
    return host, int(port)


def main() -> None:
    """Read the command line and send or receive one stream."""
    parser = argparse.ArgumentParser(description="one stream over several TCP connections")
    commands = parser.add_subparsers(dest="command", required=True)
    sending = commands.add_parser("send", help="send standard input")
    sending.add_argument("path", nargs="+", type=address, metavar="HOST:PORT")
    receiving = commands.add_parser("receive", help="write the stream to standard output")
    receiving.add_argument("host")
    receiving.add_argument("port", type=int)
    arguments = parser.parse_args()
    try:
        if arguments.command == "send":
            asyncio.run(Sender().send(sys.stdin.buffer, arguments.path))
        else:
            asyncio.run(Receiver(sys.stdout.buffer).receive(arguments.host, arguments.port))
    except TimeoutError:
        sys.exit(f"no connection worked for {GIVE_UP_SECONDS:g} s: is the receiver there, and a way to it?")
    except OSError as error:
        sys.exit(f"{error}: check the address to listen on")


if __name__ == "__main__":
    main()
