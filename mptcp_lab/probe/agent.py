#!/usr/bin/env python3
"""What runs on a lab host: the probe and the origin service. One file, standard library only, Python 3.9+.

    python3 agent.py probe                  JSON lines on standard input and output, started over SSH
    python3 agent.py origin --config FILE   the origin service (a systemd unit starts it)
    python3 agent.py endpoint ADDRESS ...   adds an MPTCP endpoint, with flags that ip(8) may not know
    python3 agent.py keeper                 the dead-man that lifts faults when their time is over

The probe answers {"id": n, "op": "...", "args": {}} with {"id": n, "ok": true, "result": {}} or
{"id": n, "ok": false, "error": {"kind", "message", "errno"}}. Every call runs in a thread of its own, so that
several may be outstanding. Lines without an id are events: {"event": "heartbeat"} about every second, and
what was subscribed to.
The probe ends with its standard input: sockets closed, captures stopped, commands ended, faults lifted.

All times are CLOCK_MONOTONIC seconds of this host; `clock` pairs them with the wall clock that captures use.

Sections: 1 basics, 2 data and timelines, 3 socket facts, 4 streams, 5 netlink, 6 reading the host, 7 events,
8 captures, 9 commands and capabilities, 10 faults, 11 lease, 12 origin service, 13 probe, 14 command line.
"""

from __future__ import annotations

import argparse
import base64
import collections
import contextlib
import ctypes
import errno
import fcntl
import functools
import hashlib
import ipaddress
import itertools
import json
import mmap
import os
import platform
import re
import resource
import select
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Json = dict[str, Any]

RUN = Path("/run/mptcp-lab")  # state that must outlive the probe: fault records, lease, origin sockets
IPPROTO_MPTCP = 262  # socket.IPPROTO_MPTCP is Python 3.10
LEGACY = Path("/proc/sys/net/mptcp/mptcp_enabled")  # exists on the out-of-tree v0.9x kernels only

# ---------------------------------------------------------------------------------------------------------
# 1 Basics: errors, ids, clocks
# ---------------------------------------------------------------------------------------------------------


class AgentError(Exception):
    """An operation failed. `kind` is for programs, the message for people."""

    def __init__(self, kind: str, message: str, number: int | None = None, **more: Any) -> None:
        super().__init__(message)
        self.kind = kind
        self.errno = number
        self.more = more


def describe_error(error: BaseException) -> Json:
    """The error document that stands in an answer."""
    if isinstance(error, AgentError):
        return {"kind": error.kind, "message": str(error), "errno": error.errno, **error.more}
    if isinstance(error, OSError):
        name = errno.errorcode.get(error.errno or 0, "")
        return {"kind": "os", "message": f"{name} {error}".strip(), "errno": error.errno}
    kind = "bad-request" if isinstance(error, (KeyError, TypeError, ValueError)) else "internal"
    return {"kind": kind, "message": f"{type(error).__name__}: {error}", "errno": None}


def read_clock() -> Json:
    """A (monotonic, realtime) pair read within microseconds of each other; the tightest of five readings."""
    pairs = []
    for _ in range(5):
        before = time.monotonic_ns()
        wall = time.time_ns()
        after = time.monotonic_ns()
        pairs.append((after - before, (before + after) // 2, wall))
    spread, monotonic, wall = min(pairs)
    return {"monotonic": monotonic / 1e9, "realtime": wall / 1e9, "spread": spread / 1e9}


class Registry:
    """Things opened by calls, by id ("stream-3"), so that later calls can name them."""

    def __init__(self) -> None:
        self._items: dict[str, Any] = {}
        self._count = itertools.count(1)
        self._lock = threading.Lock()

    def add(self, kind: str, item: Any) -> str:
        """Keep an item and return its new id."""
        with self._lock:
            name = f"{kind}-{next(self._count)}"
            self._items[name] = item
        return name

    def get(self, name: str) -> Any:
        """The item with this id."""
        with self._lock:
            if name not in self._items:
                raise AgentError("unknown-id", f"{name} is not open here; it was closed or never existed")
            return self._items[name]

    def pop(self, name: str) -> Any:
        """Take the item with this id out."""
        item = self.get(name)
        with self._lock:
            self._items.pop(name, None)
        return item

    def drain(self) -> list[Any]:
        """Take everything out, newest first."""
        with self._lock:
            items = list(self._items.values())[::-1]
            self._items.clear()
        return items


# ---------------------------------------------------------------------------------------------------------
# 2 Data and timelines
# ---------------------------------------------------------------------------------------------------------

BLOCK = 65536


ZEROS = bytes(BLOCK)


@functools.lru_cache(maxsize=8)  # short answers have one seed, and making a block takes as long as sending it
def random_block(seed: int | str, number: int) -> bytes:
    """A block of the "random" pattern."""
    return hashlib.shake_128(f"{seed}:{number}".encode()).digest(BLOCK)


class Pattern:
    """Deterministic data: byte p depends on the seed and on p, so a lost, doubled or moved piece shows.

    "random" is SHAKE-128 of "seed:block" per 64 KiB block; "zero" is zeros.
    """

    def __init__(self, seed: int | str, kind: str = "random") -> None:
        if kind not in ("random", "zero"):
            raise ValueError(f"pattern {kind!r}: use 'random' or 'zero'")
        self._seed = seed
        self._kind = kind
        self._number = -1
        self._block = ZEROS

    def read(self, position: int, length: int) -> bytes:
        """`length` bytes from `position`."""
        pieces = []
        while length > 0:
            number, offset = divmod(position, BLOCK)
            if self._kind == "random" and number != self._number:
                self._block = random_block(self._seed, number)
                self._number = number
            piece = self._block[offset : offset + length]
            pieces.append(piece)
            position += len(piece)
            length -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class Timeline:
    """When how many bytes had passed, in bounded memory: exact largest gaps, thinned points.

    `points` are (monotonic seconds, total bytes); when there are too many, every second one is dropped.
    """

    POINTS = 4096
    GAPS = 16

    def __init__(self) -> None:
        self.points: list[tuple[float, int]] = []
        self.gaps: list[tuple[float, float]] = []  # (length, start), the largest first
        self.first: float | None = None
        self.last: float | None = None
        self.chunks = 0
        self.total = 0
        self._stride = 1

    def add(self, nbytes: int) -> None:
        """Note that `nbytes` passed now."""
        now = time.monotonic()
        self.total += nbytes
        if self.last is None:
            self.first = now
        else:
            self._note_gap(now - self.last, self.last)
        self.last = now
        if self.chunks % self._stride == 0:
            self.points.append((now, self.total))
            if len(self.points) > self.POINTS:
                del self.points[1::2]
                self._stride *= 2
        self.chunks += 1

    def _note_gap(self, length: float, start: float) -> None:
        if len(self.gaps) < self.GAPS or length > self.gaps[-1][0]:
            self.gaps.append((length, start))
            self.gaps.sort(reverse=True)
            del self.gaps[self.GAPS :]

    def document(self) -> Json:
        """The timeline as JSON; the last point is always there."""
        points = list(self.points)
        if self.last is not None and (not points or points[-1] != (self.last, self.total)):
            points.append((self.last, self.total))
        return {
            "first": self.first,
            "last": self.last,
            "chunks": self.chunks,
            "max_gap": self.gaps[0][0] if self.gaps else 0.0,
            "gaps": [{"start": start, "seconds": length} for length, start in self.gaps],
            "timeline": points,
        }


# ---------------------------------------------------------------------------------------------------------
# 3 Socket facts (include/uapi/linux/mptcp.h, include/uapi/linux/tcp.h)
# ---------------------------------------------------------------------------------------------------------

SO_PROTOCOL = 38
SOL_MPTCP = 284
MPTCP_INFO, MPTCP_TCPINFO, MPTCP_SUBFLOW_ADDRS, MPTCP_FULL_INFO = 1, 2, 3, 4
TCP_IS_MPTCP = 43  # upstream 6.10; on v0.9x kernels 43 is MPTCP_SCHEDULER, so it is not asked there
MAX_SUBFLOWS = 64
SOCKADDR_STORAGE = 128

# name, struct format, offset; kernels only ever append, so what lies beyond the returned length is left out
MPTCP_INFO_FIELDS = (
    ("subflows", "B", 0),
    ("add_addr_signal", "B", 1),
    ("add_addr_accepted", "B", 2),
    ("subflows_max", "B", 3),
    ("add_addr_signal_max", "B", 4),
    ("add_addr_accepted_max", "B", 5),
    ("flags", "I", 8),
    ("token", "I", 12),
    ("write_seq", "Q", 16),
    ("snd_una", "Q", 24),
    ("rcv_nxt", "Q", 32),
    ("local_addr_used", "B", 40),
    ("local_addr_max", "B", 41),
    ("csum_enabled", "B", 42),
    ("retransmits", "I", 44),
    ("bytes_retrans", "Q", 48),
    ("bytes_sent", "Q", 56),
    ("bytes_received", "Q", 64),
    ("bytes_acked", "Q", 72),
    ("subflows_total", "B", 80),
    ("last_data_sent", "I", 84),
    ("last_data_recv", "I", 88),
    ("last_ack_recv", "I", 92),
)
TCP_INFO_FIELDS = (
    ("state", "B", 0),
    ("ca_state", "B", 1),
    ("retransmits", "B", 2),
    ("backoff", "B", 4),
    ("rto_us", "I", 8),
    ("snd_mss", "I", 16),
    ("rcv_mss", "I", 20),
    ("unacked", "I", 24),
    ("lost", "I", 32),
    ("retrans", "I", 36),
    ("last_data_sent_ms", "I", 44),
    ("last_data_recv_ms", "I", 52),
    ("last_ack_recv_ms", "I", 56),
    ("pmtu", "I", 60),
    ("rtt_us", "I", 68),
    ("rttvar_us", "I", 72),
    ("snd_cwnd", "I", 80),
    ("total_retrans", "I", 100),
    ("bytes_acked", "Q", 120),
    ("bytes_received", "Q", 128),
    ("segs_out", "I", 136),
    ("segs_in", "I", 140),
    ("min_rtt_us", "I", 148),
    ("delivery_rate", "Q", 160),
    ("bytes_sent", "Q", 200),
    ("bytes_retrans", "Q", 208),
)
_libc = ctypes.CDLL(None, use_errno=True)


def decode_fields(data: bytes, fields: tuple[tuple[str, str, int], ...]) -> Json:
    """The fields of a kernel struct that lie within `data`."""
    return {
        name: struct.unpack_from("=" + form, data, offset)[0]
        for name, form, offset in fields
        if offset + struct.calcsize("=" + form) <= len(data)
    }


def decode_sockaddr(data: bytes) -> tuple[str, int]:
    """(address, port) of a sockaddr_in or sockaddr_in6; IPv4-mapped addresses as IPv4."""
    family = struct.unpack_from("=H", data)[0]
    port = struct.unpack_from("!H", data, 2)[0]
    if family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, data[4:8]), port
    if family == socket.AF_INET6:
        return plain_address(socket.inet_ntop(socket.AF_INET6, data[8:24])), port
    return "", 0


def plain_address(address: str) -> str:
    """::ffff:192.0.2.1 as 192.0.2.1, everything else as it is."""
    mapped = address.lower().startswith("::ffff:") and "." in address
    return address[7:] if mapped else address


def socket_name(read: Callable[[], Any]) -> tuple[str, int] | None:
    """getsockname() or getpeername() as (address, port); None when there is none (any more)."""
    try:
        name = read()
    except OSError:
        return None
    return plain_address(name[0]), name[1]


def _getsockopt_into(
    sock: socket.socket, level: int, option: int, buffer: ctypes.Array[ctypes.c_char]
) -> int:
    """getsockopt() that also hands the buffer's content in, as MPTCP's do; returns the length written."""
    length = ctypes.c_uint32(len(buffer))
    if _libc.getsockopt(sock.fileno(), level, option, buffer, ctypes.byref(length)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return length.value


def read_full_info(sock: socket.socket) -> tuple[Json, list[Json]]:
    """MPTCP_FULL_INFO (6.5): (mptcp_info, subflows with their tcp_info). Raises OSError where it lacks."""
    address_size = 8 + 2 * SOCKADDR_STORAGE  # struct mptcp_subflow_info: id, padding, addresses
    tcp_size = 512  # more than any kernel's tcp_info: the array is then laid out by the kernel's size
    addresses = ctypes.create_string_buffer(address_size * MAX_SUBFLOWS)
    tcp = ctypes.create_string_buffer(tcp_size * MAX_SUBFLOWS)
    head = struct.pack(
        "=6I2Q",
        0,
        tcp_size,
        0,
        address_size,
        0,
        MAX_SUBFLOWS,
        ctypes.addressof(addresses),
        ctypes.addressof(tcp),
    )
    buffer = ctypes.create_string_buffer(head, len(head) + 256)
    length = _getsockopt_into(sock, SOL_MPTCP, MPTCP_FULL_INFO, buffer)
    tcp_kernel, _, address_kernel, _, count, _ = struct.unpack_from("=6I", buffer.raw)
    entries = array_of(addresses.raw, min(address_size, address_kernel), min(count, MAX_SUBFLOWS))
    infos = array_of(tcp.raw, min(tcp_size, tcp_kernel), min(count, MAX_SUBFLOWS))
    subflows = [
        _subflow(struct.unpack_from("=I", entry)[0], entry[8:], decode_fields(info, TCP_INFO_FIELDS))
        for entry, info in zip(entries, infos)
    ]
    return decode_fields(buffer.raw[len(head) : length], MPTCP_INFO_FIELDS), subflows


def array_of(data: bytes, size: int, count: int) -> list[bytes]:
    """The elements of an array that the kernel wrote, each `size` octets: the smaller of its and our size.

    net/mptcp/sockopt.c, mptcp_getsockopt_full_info; tcp_info has 248 octets in Linux 6.12, more in 6.18.
    """
    return [data[index * size : (index + 1) * size] for index in range(count)]


def read_subflow_addresses(sock: socket.socket) -> list[Json]:
    """MPTCP_SUBFLOW_ADDRS (5.16): the subflows' addresses. Raises OSError where the kernel has none."""
    size = 2 * SOCKADDR_STORAGE
    head = struct.pack("=4I", 16, 0, 0, size)
    buffer = ctypes.create_string_buffer(head, len(head) + size * MAX_SUBFLOWS)
    _getsockopt_into(sock, SOL_MPTCP, MPTCP_SUBFLOW_ADDRS, buffer)
    count = struct.unpack_from("=4I", buffer.raw)[1]
    return [_subflow(None, buffer.raw[16 + i * size : 16 + (i + 1) * size], None) for i in range(count)]


def _subflow(identity: int | None, addresses: bytes, tcp: Json | None) -> Json:
    local, lport = decode_sockaddr(addresses)
    remote, rport = decode_sockaddr(addresses[SOCKADDR_STORAGE:])
    return {"id": identity, "local": local, "lport": lport, "remote": remote, "rport": rport, "tcp": tcp}


def _option(read: Callable[[], Any]) -> tuple[Any, int | None]:
    """(value, None) or (None, errno)."""
    try:
        return read(), None
    except OSError as error:
        return None, error.errno


def read_is_mptcp(sock: socket.socket) -> bool | None:
    """TCP_IS_MPTCP (6.10), else whether MPTCP_INFO answers (5.16), else None: not knowable here."""
    if LEGACY.exists():
        return None
    flag, number = _option(lambda: sock.getsockopt(socket.IPPROTO_TCP, TCP_IS_MPTCP))
    if flag is None and number == errno.ENOPROTOOPT:
        info, _ = _option(lambda: sock.getsockopt(SOL_MPTCP, MPTCP_INFO, 256))
        return True if info else None
    return None if flag is None else bool(flag)


def socket_facts(sock: socket.socket) -> Json:
    """What the kernel says about a TCP or MPTCP socket, by the sound oracles only."""
    info, info_errno = _option(
        lambda: decode_fields(sock.getsockopt(SOL_MPTCP, MPTCP_INFO, 256), MPTCP_INFO_FIELDS)
    )
    full, full_errno = _option(lambda: read_full_info(sock))
    if full is not None:
        info, subflows = full
    else:
        subflows = _option(lambda: read_subflow_addresses(sock))[0] or []
    tcp = _option(
        lambda: decode_fields(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256), TCP_INFO_FIELDS)
    )
    return {
        "protocol": sock.getsockopt(socket.SOL_SOCKET, SO_PROTOCOL),
        "is_mptcp": read_is_mptcp(sock),
        "info_errno": info_errno,
        "full_info_errno": full_errno,
        "info": info,
        "subflows": subflows,
        "tcp": tcp[0],
        "inode": os.fstat(sock.fileno()).st_ino,
        "local": socket_name(sock.getsockname),
        "peer": socket_name(sock.getpeername),
        "at": time.monotonic(),
    }


# ---------------------------------------------------------------------------------------------------------
# 4 Streams: listeners, connections and the transfers that run on them
# ---------------------------------------------------------------------------------------------------------


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


class Listener:
    """A listening socket whose connections are accepted as they come (unless held back) and queued."""

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
        """Begin to accept, for a listener that was opened with hold."""
        self._go.set()

    def _run(self) -> None:
        self._go.wait()
        with contextlib.suppress(Cancelled):
            while True:
                self._waker.wait(self.sock, select.POLLIN)
                with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
                    sock, peer = self.sock.accept()
                    with self._changed:
                        self.accepted += 1
                        self._queue.append((Stream(sock), peer, time.monotonic()))
                        self._changed.notify_all()

    def take(self, within: float) -> tuple[Stream, Any, float]:
        """The next accepted connection: (stream, peer, when)."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._queue, within):
                raise AgentError("timeout", f"no connection to accept within {within:g} s", errno.ETIMEDOUT)
            return self._queue.popleft()

    def close(self) -> None:
        """Stop listening and drop what nobody took."""
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
    """(stream, seconds); failure is AgentError "connect" with seconds and errno (ETIMEDOUT: time over)."""
    started = time.monotonic()
    try:
        sock = new_socket(address, protocol, device)
        try:
            if source is not None:
                sock.bind((source, 0))
            number = sock.connect_ex((address, port))
            if number == errno.EINPROGRESS:
                poll = select.poll()
                poll.register(sock, select.POLLOUT)
                finished = poll.poll(within * 1000)
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


class Short:
    """A short connection: sends a message, takes an answer, ends its direction, reads to the end."""

    def __init__(self, sock: socket.socket, message: bytes) -> None:
        self.sock = sock
        self.out = memoryview(message)
        self.got = 0
        self.digest = hashlib.sha256()
        self.ended = False
        self.finished = False
        self.is_mptcp = False

    def step(self) -> None:
        """Do what is possible now. Raises OSError."""
        if self.out:
            self.out = self.out[self.sock.send(self.out) :]
            return
        data = self.sock.recv(BLOCK)
        self.ended = not data
        self.got += len(data)
        self.digest.update(data)

    def finish(self) -> None:
        """End the sending direction."""
        self.is_mptcp = bool(_option(lambda: self.sock.getsockopt(socket.IPPROTO_TCP, TCP_IS_MPTCP))[0])
        self.sock.shutdown(socket.SHUT_WR)
        self.finished = True


class Many:
    """A batch of short connections in one thread, at most `concurrent` at a time.

    Each sends `message` and expects so many bytes. With `hold` none ends before all have their answer.
    """

    def __init__(self, message: bytes, expect: int, concurrent: int, hold: bool) -> None:
        self._message, self._expect = message, expect
        self._concurrent, self._hold = concurrent, hold
        self._selector = selectors.DefaultSelector()
        self._open: set[Short] = set()
        self._held: list[Short] = []
        self._most_open = self._completed = self._mptcp = 0
        self._failed: collections.Counter[str] = collections.Counter()
        self._digests: collections.Counter[str] = collections.Counter()

    def run(self, count: int, timeout: float, to: tuple[str, int], protocol: str, source: str | None) -> Json:
        """Make `count` connections and say what became of them; when the time is over, ETIMEDOUT."""
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
            "mptcp": self._mptcp,
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
                self._answered(short)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(short, errno.errorcode.get(error.errno or 0, str(error)))

    def _answered(self, short: Short) -> None:
        if self._hold:
            self._selector.unregister(short.sock)
            self._held.append(short)
        else:
            short.finish()

    def _release(self) -> None:
        """Let all that were held end."""
        held, self._held = self._held, []
        for short in held:
            self._selector.register(short.sock, selectors.EVENT_READ, short)
            try:
                short.finish()
            except OSError as error:
                self._end(short, errno.errorcode.get(error.errno or 0, str(error)))

    def _end(self, short: Short, problem: str) -> None:
        self._selector.unregister(short.sock)
        short.sock.close()
        self._open.discard(short)
        if problem:
            self._failed[problem] += 1
        else:
            self._completed += 1
            self._mptcp += short.is_mptcp
            self._digests[short.digest.hexdigest()] += 1

    def _give_up(self, not_begun: int) -> None:
        self._failed["ETIMEDOUT"] += len(self._open) + not_begun
        for short in self._open:
            short.sock.close()


# ---------------------------------------------------------------------------------------------------------
# 5 Netlink: a small client, and MPTCP's path manager (Documentation/netlink/specs/mptcp_pm.yaml)
# ---------------------------------------------------------------------------------------------------------

NETLINK_ROUTE, NETLINK_GENERIC = 0, 16
SOL_NETLINK, NETLINK_ADD_MEMBERSHIP = 270, 1
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLA_F_NESTED, NLA_TYPE_MASK = 0x8000, 0x3FFF
GENL_ID_CTRL, CTRL_CMD_GETFAMILY = 16, 3
CTRL_ATTR_FAMILY_ID, CTRL_ATTR_FAMILY_NAME, CTRL_ATTR_MCAST_GROUPS = 1, 2, 7
PM_ADD_ADDR, PM_DEL_ADDR, PM_GET_ADDR, PM_SET_LIMITS, PM_GET_LIMITS, PM_SET_FLAGS = 1, 2, 3, 5, 6, 7
PM_ANNOUNCE, PM_REMOVE, PM_SUBFLOW_CREATE, PM_SUBFLOW_DESTROY = 8, 9, 10, 11
PM_ATTR_ADDR, PM_ATTR_RCV_ADD_ADDRS, PM_ATTR_SUBFLOWS = 1, 2, 3
PM_ATTR_TOKEN, PM_ATTR_LOC_ID, PM_ATTR_ADDR_REMOTE = 4, 5, 6
ADDR_FAMILY, ADDR_ID, ADDR_ADDR4, ADDR_ADDR6, ADDR_PORT, ADDR_FLAGS, ADDR_IFINDEX = 1, 2, 3, 4, 5, 6, 7
STEERING = {
    "announce": PM_ANNOUNCE,
    "remove": PM_REMOVE,
    "create": PM_SUBFLOW_CREATE,
    "destroy": PM_SUBFLOW_DESTROY,
    "priority": PM_SET_FLAGS,
}
ENDPOINT_FLAGS = {"signal": 1, "subflow": 2, "backup": 4, "fullmesh": 8, "implicit": 16, "laminar": 32}


def pack_attr(kind: int, data: bytes) -> bytes:
    """One netlink attribute, padded."""
    return struct.pack("=HH", len(data) + 4, kind) + data + bytes(-len(data) % 4)


def parse_attrs(data: bytes) -> dict[int, bytes]:
    """Attributes by type; of repeated ones the last."""
    found = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if length < 4:
            break
        found[kind & NLA_TYPE_MASK] = data[4:length]
        data = data[(length + 3) & ~3 :]
    return found


def split_messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, payload) of each netlink message in a datagram."""
    while len(data) >= 16:
        length, kind = struct.unpack_from("=IH", data)
        yield kind, data[16:length]
        data = data[(length + 3) & ~3 :]


class Netlink:
    """A netlink socket for requests and their answers."""

    def __init__(self, protocol: int) -> None:
        self.sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self.sock.bind((0, 0))
        self.sock.settimeout(5)

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def request(self, kind: int, payload: bytes, flags: int = NLM_F_ACK) -> list[bytes]:
        """Send one request, collect the payloads of its answers. Raises OSError with the kernel's errno."""
        self.send(((kind, flags, payload),))
        return self.receive()

    def send(self, messages: tuple[tuple[int, int, bytes], ...]) -> None:
        """Send (type, flags, payload) messages in one datagram."""
        self.sock.send(
            b"".join(
                struct.pack("=IHHII", 16 + len(payload), kind, flags | NLM_F_REQUEST, 1, 0) + payload
                for kind, flags, payload in messages
            )
        )

    def receive(self) -> list[bytes]:
        """The payloads of the answers up to the acknowledgement or the end of a dump."""
        answers: list[bytes] = []
        while True:
            for kind, data in split_messages(self.sock.recv(1 << 18)):
                if kind == NLMSG_ERROR:
                    number = -struct.unpack_from("=i", data)[0]
                    if number:
                        raise OSError(number, os.strerror(number))
                    return answers
                if kind == NLMSG_DONE:
                    return answers
                answers.append(data)


class PathManager:
    """Path management in the kernel and in user space; not by `ip`, which may be older than the kernel."""

    def __init__(self) -> None:
        self.netlink = Netlink(NETLINK_GENERIC)
        name = pack_attr(CTRL_ATTR_FAMILY_NAME, b"mptcp_pm\0")
        try:
            answer = self._generic(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, name)[0]
        except OSError as error:
            self.netlink.sock.close()
            raise AgentError(
                "unsupported", "this kernel has no mptcp_pm netlink family", error.errno
            ) from None
        attrs = parse_attrs(answer)
        self.family = struct.unpack("=H", attrs[CTRL_ATTR_FAMILY_ID])[0]
        self.groups = {}
        for group in parse_attrs(attrs[CTRL_ATTR_MCAST_GROUPS]).values():
            entry = parse_attrs(group)
            self.groups[entry[1].rstrip(b"\0").decode()] = struct.unpack("=I", entry[2])[0]

    def __enter__(self) -> PathManager:
        return self

    def __exit__(self, *_: object) -> None:
        self.netlink.sock.close()

    def _generic(self, family: int, command: int, attrs: bytes, flags: int = NLM_F_ACK) -> list[bytes]:
        answers = self.netlink.request(family, struct.pack("=BBH", command, 1, 0) + attrs, flags)
        return [answer[4:] for answer in answers]

    def endpoints(self) -> list[Json]:
        """Every endpoint, by id."""
        found = []
        for answer in self._generic(self.family, PM_GET_ADDR, b"", NLM_F_DUMP):
            attrs = parse_attrs(parse_attrs(answer)[PM_ATTR_ADDR])
            raw = attrs.get(ADDR_ADDR4) or attrs[ADDR_ADDR6]
            index = struct.unpack("=i", attrs[ADDR_IFINDEX])[0] if ADDR_IFINDEX in attrs else 0
            bits = struct.unpack("=I", attrs[ADDR_FLAGS])[0] if ADDR_FLAGS in attrs else 0
            found.append(
                {
                    "id": attrs[ADDR_ID][0],
                    "address": socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw),
                    "port": struct.unpack("=H", attrs[ADDR_PORT])[0] if ADDR_PORT in attrs else 0,
                    "device": device_name(index),
                    "flags": [name for name, bit in ENDPOINT_FLAGS.items() if bits & bit],
                }
            )
        return sorted(found, key=lambda endpoint: int(endpoint["id"]))

    def _address(self, endpoint: Json, attribute: int = PM_ATTR_ADDR) -> bytes:
        packed = ipaddress.ip_address(endpoint["address"]).packed
        family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
        body = pack_attr(ADDR_FAMILY, struct.pack("=H", family))
        body += pack_attr(ADDR_ID, struct.pack("=B", endpoint.get("id", 0)))
        body += pack_attr(ADDR_ADDR4 if len(packed) == 4 else ADDR_ADDR6, packed)
        bits = sum(ENDPOINT_FLAGS[name] for name in endpoint.get("flags", []))
        body += pack_attr(ADDR_FLAGS, struct.pack("=I", bits))
        if endpoint.get("port"):
            body += pack_attr(ADDR_PORT, struct.pack("=H", endpoint["port"]))
        if endpoint.get("device"):
            body += pack_attr(ADDR_IFINDEX, struct.pack("=i", socket.if_nametoindex(endpoint["device"])))
        return pack_attr(attribute | NLA_F_NESTED, body)

    def add(self, endpoint: Json) -> None:
        """Add an endpoint {"address", "id"?, "device"?, "port"?, "flags"?}."""
        self._generic(self.family, PM_ADD_ADDR, self._address(endpoint))

    def delete(self, endpoint: Json) -> None:
        """Delete the endpoint with this id and address."""
        self._generic(self.family, PM_DEL_ADDR, self._address(endpoint))

    def set_flags(self, endpoint: Json) -> None:
        """Make "backup" and "fullmesh" of an endpoint what `flags` says."""
        self._generic(self.family, PM_SET_FLAGS, self._address(endpoint))

    def limits(self) -> Json:
        """{"subflows", "add_addr_accepted"}."""
        attrs = parse_attrs(self._generic(self.family, PM_GET_LIMITS, b"")[0])
        return {
            "subflows": struct.unpack("=I", attrs[PM_ATTR_SUBFLOWS])[0],
            "add_addr_accepted": struct.unpack("=I", attrs[PM_ATTR_RCV_ADD_ADDRS])[0],
        }

    def set_limits(self, subflows: int, add_addr_accepted: int) -> None:
        """Set both limits."""
        attrs = pack_attr(PM_ATTR_RCV_ADD_ADDRS, struct.pack("=I", add_addr_accepted))
        attrs += pack_attr(PM_ATTR_SUBFLOWS, struct.pack("=I", subflows))
        self._generic(self.family, PM_SET_LIMITS, attrs)

    def steer(
        self,
        command: str,
        token: int,
        local: Json | None = None,
        remote: Json | None = None,
        identity: int | None = None,
    ) -> None:
        """Give an order about one connection, known by its local token, to the userspace path manager."""
        attrs = pack_attr(PM_ATTR_TOKEN, struct.pack("=I", token))
        if local is not None:
            attrs += self._address(local)
        if remote is not None:
            attrs += self._address(remote, PM_ATTR_ADDR_REMOTE)
        if identity is not None:
            attrs += pack_attr(PM_ATTR_LOC_ID, struct.pack("=B", identity))
        try:
            self._generic(self.family, STEERING[command], attrs)
        except OSError as error:
            name = errno.errorcode.get(error.errno or 0, "?")
            hint = "the connection must have been made under net.mptcp.path_manager=userspace, and be MPTCP"
            raise AgentError(
                "os", f"{name}: {command} refused for token {token:#x}; {hint}", error.errno
            ) from None


def endpoint_main(endpoint: Json) -> int:
    """Add one endpoint, as `ip mptcp endpoint add` does; say in one line why that is refused."""
    try:
        with PathManager() as manager:
            manager.add(endpoint)
    except (OSError, ValueError, AgentError) as error:
        flags = " ".join(endpoint["flags"])
        print(f"endpoint {endpoint['address']} dev {endpoint['device']} {flags}: {error}", file=sys.stderr)
        return 1
    return 0


def device_name(index: int) -> str:
    """Name of a network device, "" for 0 or one that is gone."""
    with contextlib.suppress(OSError):
        return socket.if_indextoname(index) if index > 0 else ""
    return ""


# ---------------------------------------------------------------------------------------------------------
# 6 Reading the host
# ---------------------------------------------------------------------------------------------------------

SYSCTLS = (
    "net/mptcp/*",
    "net/ipv4/ip_forward",
    "net/ipv4/tcp_retries*",
    "net/ipv4/tcp_syn*_retries",
    "net/ipv4/tcp_congestion_control",
    "net/ipv4/conf/*/rp_filter",
    "net/ipv4/conf/*/forwarding",
    "net/ipv4/conf/*/arp_*",
    "net/ipv6/conf/*/forwarding",
    "net/ipv6/conf/*/disable_ipv6",
    "net/ipv6/conf/*/accept_ra",
    "net/ipv6/conf/*/keep_addr_on_down",
)
VOLATILE = {
    "valid_life_time",
    "preferred_life_time",
    "tentative",
    "nodad",
    "expires",
    "used",
    "age",
    "refcnt",
    "stats",
}
PROC_SYS = Path("/proc/sys")
AUTOMATIC_HANDLE = re.compile("[89a-f][0-9a-f]{3}:$")  # of a qdisc that was added without one


def read_counters() -> Json:
    """MIB counters by group ("MPTcpExt", "TcpExt", "IpExt", "Tcp", ...)."""
    groups: Json = {}
    for name in ("netstat", "snmp"):
        lines = Path("/proc/net", name).read_text().splitlines()
        for names, values in itertools.islice(itertools.zip_longest(lines, lines[1:]), 0, None, 2):
            group, _, keys = names.partition(":")
            numbers = map(int, values.partition(":")[2].split())
            groups[group] = dict(itertools.zip_longest(keys.split(), numbers))
    return groups


def read_nics() -> Json:
    """Bytes and packets per network device."""
    nics = {}
    for line in Path("/proc/net/dev").read_text().splitlines()[2:]:
        device, _, rest = line.partition(":")
        n = [int(word) for word in rest.split()]
        nics[device.strip()] = {
            "rx_bytes": n[0],
            "rx_packets": n[1],
            "rx_dropped": n[3],
            "tx_bytes": n[8],
            "tx_packets": n[9],
            "tx_dropped": n[11],
        }
    return nics


def read_sysctls() -> Json:
    """The sysctls that decide about multipath, by dotted name."""
    values = {}
    for pattern in SYSCTLS:
        for path in sorted(PROC_SYS.glob(pattern)):
            with contextlib.suppress(OSError):
                values[sysctl_name(path)] = path.read_text().strip()
    return values


def sysctl_name(path: Path) -> str:
    """net.ipv4.conf.eth1/5.rp_filter for .../eth1.5/...: as sysctl(8) writes it."""
    return ".".join(part.replace(".", "/") for part in path.relative_to(PROC_SYS).parts)


def read_json_tools(commands: dict[str, list[str]]) -> Json:
    """Run tools that print JSON, all at once: {name: parsed}; one that fails gives {"error": text}."""
    started: dict[str, subprocess.Popen[str] | None] = {}
    for name, argv in commands.items():
        try:
            started[name] = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        except FileNotFoundError:
            started[name] = None
    documents: Json = {}
    for name, process in started.items():
        if process is None:
            documents[name] = {"error": f"{commands[name][0]}: not installed"}
            continue
        out, err = process.communicate(timeout=10)
        documents[name] = json.loads(out or "[]") if process.returncode == 0 else {"error": err.strip()}
    return documents


IP_READINGS = {
    "addresses": ["ip", "-j", "address", "show"],
    "routes4": ["ip", "-j", "-4", "route", "show", "table", "all"],
    "routes6": ["ip", "-j", "-6", "route", "show", "table", "all"],
    "rules4": ["ip", "-j", "-4", "rule", "show"],
    "rules6": ["ip", "-j", "-6", "rule", "show"],
    "neighbours": ["ip", "-j", "neighbour", "show"],
    "nft": ["nft", "-j", "list", "ruleset"],
    "qdiscs": ["tc", "-j", "qdisc", "show"],
}


def read_tool(name: str) -> Any:
    """One of IP_READINGS; failure is an error here."""
    document = read_json_tools({name: IP_READINGS[name]})[name]
    if isinstance(document, dict) and "error" in document:
        raise AgentError("tool", f"{' '.join(IP_READINGS[name])}: {document['error']}")
    return document


#: What one run of ip(8) can read together: its options, and names of IP_READINGS.
IP_BATCHES: tuple[tuple[list[str], tuple[str, ...]], ...] = (
    ([], ("addresses", "neighbours")),
    (["-4"], ("routes4", "rules4")),
    (["-6"], ("routes6", "rules6")),
)


def read_ip_batches() -> Json:
    """All of IP_READINGS that ip(8) reads, with three processes; one by one where a batch fails."""
    started = []
    for options, names in IP_BATCHES:
        words = (IP_READINGS[name] for name in names)
        lines = [" ".join(word for word in argv[1:] if not word.startswith("-")) for argv in words]
        argv = ["ip", "-j", *options, "-batch", "-"]
        process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert process.stdin is not None
        process.stdin.write("\n".join(lines) + "\n")
        process.stdin.close()
        started.append((process, names))
    found: Json = {}
    for process, names in started:
        assert process.stdout is not None
        with process.stdout:
            documents = split_json(process.stdout.read())
        if process.wait(timeout=10) == 0 and len(documents) == len(names):
            found.update(zip(names, documents))
        else:
            found.update(read_json_tools({name: IP_READINGS[name] for name in names}))
    return found


def split_json(text: str) -> list[Any]:
    """Documents that follow one another."""
    documents, decoder, text = [], json.JSONDecoder(), text.lstrip()
    while text:
        document, end = decoder.raw_decode(text)
        documents.append(document)
        text = text[end:].lstrip()
    return documents


def network_state() -> Json:
    """Everything about this host's network that a fault may change, without what changes by itself."""
    state = read_ip_batches()
    state |= read_json_tools({name: IP_READINGS[name] for name in ("nft", "qdiscs")})
    neighbours = state.pop("neighbours")
    state["permanent_neighbours"] = [n for n in neighbours if "PERMANENT" in n.get("state", [])]
    state["resolving"] = [
        f"{n['dst']} on {n['dev']}" for n in neighbours if "INCOMPLETE" in n.get("state", [])
    ]
    with contextlib.suppress(AgentError), PathManager() as manager:
        state["endpoints"] = manager.endpoints()
        state["limits"] = manager.limits()
    state["sysctls"] = read_sysctls()
    return {name: _settled(document) for name, document in state.items()}


def _settled(value: Any) -> Any:
    """The document without volatile fields: lifetimes, counters, handles that the kernel numbers."""
    if isinstance(value, list):
        kept = [_settled(item) for item in value if not (isinstance(item, dict) and "metainfo" in item)]
        return [item for item in kept if item not in ({}, None)]
    if not isinstance(value, dict):
        return value
    drop = set(VOLATILE)
    if "family" in value or AUTOMATIC_HANDLE.match(str(value.get("handle", ""))):
        drop.add("handle")
    settled = {key: _settled(item) for key, item in value.items() if key not in drop}
    if "counter" in settled and isinstance(settled["counter"], dict):
        settled["counter"] = {
            key: item for key, item in settled["counter"].items() if key not in ("packets", "bytes")
        }
    return settled


# ---------------------------------------------------------------------------------------------------------
# 7 Netlink events: MPTCP's, and those of links, addresses, routes and rules
# ---------------------------------------------------------------------------------------------------------

MPTCP_EVENTS = {
    1: "created",
    2: "established",
    3: "closed",
    6: "announced",
    7: "removed",
    10: "sub_established",
    11: "sub_closed",
    13: "sub_priority",
    15: "listener_created",
    16: "listener_closed",
}
MPTCP_EVENT_ATTRS = {
    1: ("token", "=I"),
    3: ("loc_id", "=B"),
    4: ("rem_id", "=B"),
    9: ("sport", "!H"),
    10: ("dport", "!H"),
    11: ("backup", "=B"),
    12: ("error", "=B"),
    13: ("flags", "=H"),
    14: ("timeout", "=I"),
    15: ("if_index", "=i"),
    16: ("reset_reason", "=I"),
    17: ("reset_flags", "=I"),
    18: ("server_side", "=B"),
}
MPTCP_EVENT_ADDRESSES = {5: "saddr", 6: "saddr", 7: "daddr", 8: "daddr"}
# RTMGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV4_RULE, _IPV6_IFADDR, _IPV6_ROUTE, RTNLGRP_IPV6_RULE
ROUTE_GROUPS = 0x1 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | (1 << 18)
ROUTE_EVENTS = {
    16: "link",
    17: "link_removed",
    20: "address",
    21: "address_removed",
    24: "route",
    25: "route_removed",
    32: "rule",
    33: "rule_removed",
}


def decode_mptcp_event(payload: bytes) -> Json:
    """A message of the mptcp_pm_events group."""
    event: Json = {"event": "mptcp", "type": MPTCP_EVENTS.get(payload[0], str(payload[0]))}
    for kind, data in parse_attrs(payload[4:]).items():
        if kind in MPTCP_EVENT_ATTRS:
            name, form = MPTCP_EVENT_ATTRS[kind]
            event[name] = struct.unpack_from(form, data)[0]
        elif kind in MPTCP_EVENT_ADDRESSES:
            family = socket.AF_INET if len(data) == 4 else socket.AF_INET6
            event[MPTCP_EVENT_ADDRESSES[kind]] = plain_address(socket.inet_ntop(family, data))
    if "if_index" in event:
        event["device"] = device_name(event["if_index"])
    return event


def decode_route_event(kind: int, payload: bytes) -> Json | None:
    """A message of rtnetlink's groups; None for a kind that is not listed above."""
    if kind not in ROUTE_EVENTS:
        return None
    event: Json = {"event": "network", "type": ROUTE_EVENTS[kind]}
    if kind in (16, 17):
        attrs = parse_attrs(payload[16:])
        event["device"] = attrs[3].rstrip(b"\0").decode()
        event["up"] = bool(struct.unpack_from("=I", payload, 8)[0] & 1)
        if 33 in attrs:
            event["carrier"] = bool(attrs[33][0])
    elif kind in (20, 21):
        attrs = parse_attrs(payload[8:])
        event["device"] = device_name(struct.unpack_from("=I", payload, 4)[0])
        event["address"] = f"{_text_address(attrs.get(2) or attrs[1])}/{payload[1]}"
    else:
        attrs = parse_attrs(payload[12:])
        event["table"] = struct.unpack("=I", attrs[15])[0] if 15 in attrs else payload[4]
        event["destination"] = f"{_text_address(attrs[1])}/{payload[1]}" if 1 in attrs else "default"
        if kind in (24, 25) and 4 in attrs:
            event["device"] = device_name(struct.unpack("=i", attrs[4])[0])
    return event


def _text_address(raw: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)


class EventWatch:
    """Reports netlink events as they come, until closed."""

    def __init__(self, report: Callable[[Json], None]) -> None:
        self._report = report
        self._waker = Waker()
        self._route = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_ROUTE)
        self._route.bind((0, ROUTE_GROUPS))
        self._mptcp = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_GENERIC)
        self._mptcp.bind((0, 0))
        with PathManager() as manager:
            self._mptcp.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, manager.groups["mptcp_pm_events"])
        self._threads = [
            threading.Thread(target=self._run, args=(sock,), daemon=True)
            for sock in (self._route, self._mptcp)
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, sock: socket.socket) -> None:
        with contextlib.suppress(Cancelled):
            while True:
                self._waker.wait(sock, select.POLLIN)
                try:
                    data = sock.recv(1 << 18)
                except OSError as error:  # ENOBUFS: events came faster than they were read
                    self._report({"event": "lost", "at": time.monotonic(), "error": str(error)})
                    continue
                now = time.monotonic()
                for kind, payload in split_messages(data):
                    event = (
                        decode_mptcp_event(payload)
                        if sock is self._mptcp
                        else decode_route_event(kind, payload)
                    )
                    if event is not None:
                        self._report({**event, "at": now})

    def close(self) -> None:
        """Stop reporting."""
        self._waker.wake()
        for thread in self._threads:
            thread.join()
        self._route.close()
        self._mptcp.close()
        self._waker.close()


# ---------------------------------------------------------------------------------------------------------
# 8 Captures: headers only, by a TPACKET_V3 ring per NIC (Documentation/networking/packet_mmap.rst), as pcapng
# ---------------------------------------------------------------------------------------------------------

SOL_PACKET, PACKET_RX_RING, PACKET_STATISTICS, PACKET_VERSION, TPACKET_V3 = 263, 5, 6, 10, 2
SO_ATTACH_FILTER, SIOCGIFHWADDR = 26, 0x8927
ETH_P_ALL = 3
BLOCK_BYTES, BLOCK_COUNT, FRAME_BYTES, RETIRE_MS = 1 << 17, 48, 2048, 10
TP_STATUS_USER = 1
PACKET_OTHERHOST, PACKET_OUTGOING = 3, 4
ARPHRD_LOOPBACK, LINKTYPE_ETHERNET, LINKTYPE_RAW = 772, 1, 101
ARPHRD_ETHER = 1
CAPTURE_BYTES = 256 << 20  # of ring blocks kept in memory per NIC; beyond it packets are counted as dropped


class NicCapture:
    """One NIC's ring, drained by a thread into memory."""

    def __init__(self, device: str, snaplen: int) -> None:
        self.device = device
        self.blocks: list[bytes] = []
        self.drained = 0
        self.dropped = 0
        self._seen = 0
        self._kept = 0
        self._waker = Waker()
        self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        try:
            self.hardware = self._hardware_type()
            self._filter(snaplen)
            self.sock.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V3)
            frames = BLOCK_BYTES // FRAME_BYTES * BLOCK_COUNT
            ring = struct.pack("=7I", BLOCK_BYTES, BLOCK_COUNT, FRAME_BYTES, frames, RETIRE_MS, 0, 0)
            self.sock.setsockopt(SOL_PACKET, PACKET_RX_RING, ring)
            self._ring = mmap.mmap(self.sock.fileno(), BLOCK_BYTES * BLOCK_COUNT)
            self.sock.bind((device, ETH_P_ALL))
        except BaseException:
            self.sock.close()
            raise
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _hardware_type(self) -> int:
        request = fcntl.ioctl(self.sock, SIOCGIFHWADDR, struct.pack("16s24x", self.device.encode()))
        return int(struct.unpack_from("=H", request, 16)[0])

    def _filter(self, snaplen: int) -> None:
        """A one-instruction BPF program, `ret #snaplen`: the kernel copies no more than that of a packet."""
        program = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, snaplen), 8)
        self.sock.setsockopt(
            socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program))
        )

    def _run(self) -> None:
        position = 0
        with contextlib.suppress(Cancelled):
            while True:
                start = position * BLOCK_BYTES
                status, packets = struct.unpack_from("=II", self._ring, start + 8)
                if not status & TP_STATUS_USER:
                    self._waker.wait(self.sock, select.POLLIN | select.POLLERR)
                    continue
                length = struct.unpack_from("=I", self._ring, start + 20)[0]
                if self._kept + length <= CAPTURE_BYTES:
                    self.blocks.append(self._ring[start : start + length])
                    self._kept += length
                else:
                    self.dropped += packets
                self.drained += packets
                struct.pack_into("=I", self._ring, start + 8, 0)
                position = (position + 1) % BLOCK_COUNT

    def _count(self) -> None:
        """Add up PACKET_STATISTICS, which reading resets; tp_packets includes the drops."""
        packets, drops, _ = struct.unpack("=3I", self.sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 12))
        self._seen += packets - drops
        self.dropped += drops

    def stop(self) -> None:
        """Let nothing more in, wait until the kernel has handed out what it holds, end."""
        self._filter(0)
        deadline = time.monotonic() + 2
        self._count()
        while self.drained < self._seen and time.monotonic() < deadline:
            # the kernel's timer retires the open block, and reports that nowhere else
            time.sleep(RETIRE_MS / 2000)
            self._count()
        self.dropped += max(0, self._seen - self.drained)
        self.close()

    def close(self) -> None:
        """End without draining."""
        self._waker.wake()
        self._thread.join()
        self._ring.close()
        self.sock.close()
        self._waker.close()

    def packets(self) -> Iterator[tuple[int, int, int, bytes]]:
        """(nanoseconds, original length, packet type, bytes) in the order of arrival."""
        for block in self.blocks:
            count, offset = struct.unpack_from("=II", block, 12)
            for _ in range(count):
                step, seconds, nanos, kept, length, _, mac = struct.unpack_from("=6IH", block, offset)
                kind = block[offset + 48 + 10]  # sll_pkttype of the sockaddr_ll behind the 48-byte header
                # On the loopback device every packet comes twice, leaving and arriving. What a switch floods,
                # having forgotten where its receiver is plugged in, is not this host's: a NIC drops it.
                twice = kind == PACKET_OUTGOING and self.hardware == ARPHRD_LOOPBACK
                if not twice and kind != PACKET_OTHERHOST:
                    data = block[offset + mac : offset + mac + kept]
                    yield seconds * 1_000_000_000 + nanos, length, kind, data
                offset += step


class Capture:
    """Captures on several NICs that start and stop together and become one pcapng."""

    def __init__(self, devices: list[str], snaplen: int) -> None:
        self.snaplen = snaplen
        self.nics: list[NicCapture] = []
        self.data = b""
        try:
            for device in devices:
                self.nics.append(NicCapture(device, snaplen))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End without a result."""
        for nic in self.nics:
            nic.close()
        self.nics = []

    def stop(self) -> Json:
        """End; the pcapng is then in `data`."""
        for nic in self.nics:
            nic.stop()
        nics, self.nics = self.nics, []
        self.data = b"".join(pcapng_blocks(nics, self.snaplen))
        counts = {nic.device: {"packets": nic.drained, "dropped": nic.dropped} for nic in nics}
        return {"nbytes": len(self.data), "devices": counts}


def pcapng_block(kind: int, body: bytes) -> bytes:
    """One block, padded, with its length on both ends."""
    body += bytes(-len(body) % 4)
    length = struct.pack("=I", len(body) + 12)
    return struct.pack("=I", kind) + length + body + length


def pcapng_option(code: int, data: bytes) -> bytes:
    """One option, padded."""
    return struct.pack("=HH", code, len(data)) + data + bytes(-len(data) % 4)


def pcapng_blocks(nics: list[NicCapture], snaplen: int) -> Iterator[bytes]:
    """Section header, a description per NIC (named, nanoseconds), packets by time, drop statistics."""
    end = pcapng_option(0, b"")
    host = pcapng_option(4, f"mptcp-lab probe on {platform.node()}".encode()) + end
    yield pcapng_block(0x0A0D0D0A, struct.pack("=IHHq", 0x1A2B3C4D, 1, 0, -1) + host)
    for nic in nics:
        link = LINKTYPE_ETHERNET if nic.hardware in (ARPHRD_ETHER, ARPHRD_LOOPBACK) else LINKTYPE_RAW
        options = pcapng_option(2, nic.device.encode()) + pcapng_option(9, b"\x09") + end
        yield pcapng_block(1, struct.pack("=HHI", link, 0, snaplen) + options)
    packets = [(packet, index) for index, nic in enumerate(nics) for packet in nic.packets()]
    packets.sort(key=lambda entry: entry[0][0])
    for (stamp, length, kind, data), index in packets:
        head = struct.pack("=5I", index, stamp >> 32, stamp & 0xFFFFFFFF, len(data), length)
        direction = pcapng_option(2, struct.pack("=I", 2 if kind == PACKET_OUTGOING else 1))
        yield pcapng_block(6, head + data + bytes(-len(data) % 4) + direction + end)
    now = time.time_ns()
    for index, nic in enumerate(nics):
        options = pcapng_option(5, struct.pack("=Q", nic.dropped)) + end
        yield pcapng_block(5, struct.pack("=3I", index, now >> 32, now & 0xFFFFFFFF) + options)


# --- the raw relay of a peer that lives in the controller

ETH_P_IP = 0x0800


class Relay:
    """Raw packets for a peer elsewhere: reports those that come to (address, port), sends its answers (IPv4).

    It hears packets before the packet filter, so that a drop fault keeps the kernel from answering them too.
    """

    def __init__(self, address: str, port: int, report: Callable[[Json], None]) -> None:
        self._target = socket.inet_aton(address)
        self._port = struct.pack("!H", port)
        self._report = report
        self._waker = Waker()
        self._heard = socket.socket(
            socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, socket.htons(ETH_P_IP)
        )
        self._spoken = socket.socket(
            socket.AF_INET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW
        )
        try:
            self._spoken.bind((address, 0))  # policy routing looks at it
        except BaseException:
            self._heard.close()
            self._spoken.close()
            raise
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(Cancelled):
            while True:
                self._waker.wait(self._heard, select.POLLIN)
                packet = self._heard.recv(65535)
                transport = (packet[0] & 0x0F) * 4
                mine = packet[16:20] == self._target and packet[transport + 2 : transport + 4] == self._port
                if mine and packet[9] == socket.IPPROTO_TCP:
                    self._report({"event": "packet", "packet": base64.b64encode(packet).decode()})

    def send(self, packet: bytes) -> None:
        """Send an IPv4 packet as it is."""
        self._spoken.sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))

    def close(self) -> None:
        """Stop relaying."""
        self._waker.wake()
        self._thread.join()
        self._heard.close()
        self._spoken.close()
        self._waker.close()


# ---------------------------------------------------------------------------------------------------------
# 9 Commands and capabilities
# ---------------------------------------------------------------------------------------------------------


class Commands:
    """Commands run for the controller; those that still run end with the probe."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()

    def run(self, argv: list[str], timeout: float, stdin: str = "") -> Json:
        """Run to the end, or kill the whole process group when the time is over (`timed_out`)."""
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._running.add(process)
        timed_out = False
        try:
            out, err = process.communicate(stdin.encode(), timeout)
        except subprocess.TimeoutExpired:
            timed_out = True
            self._kill(process)
            out, err = process.communicate()
        finally:
            self._running.discard(process)
        return {
            "returncode": process.returncode,
            "stdout": out.decode(errors="replace"),
            "stderr": err.decode(errors="replace"),
            "timed_out": timed_out,
        }

    @staticmethod
    def _kill(process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Kill what still runs."""
        for process in list(self._running):
            self._kill(process)


TOOL_WITHIN = 60.0  # a starved or emulated host takes ten seconds to start a unit


def run_tool(argv: list[str], stdin: str = "") -> str:
    """Run a system tool that must succeed and return its output; AgentError "tool" quotes what it said."""
    try:
        done = subprocess.run(
            argv, input=stdin, capture_output=True, text=True, timeout=TOOL_WITHIN, check=False
        )
    except subprocess.TimeoutExpired:
        raise AgentError("tool", f"{' '.join(argv)}: not done within {TOOL_WITHIN:.0f} s") from None
    except FileNotFoundError:
        raise AgentError("unsupported", f"{argv[0]} is not installed on this host", errno.ENOENT) from None
    if done.returncode:
        raise AgentError("tool", f"{' '.join(argv)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


# Tried in a network namespace that exists for the length of the command: nothing of the host is touched.
SCRATCH_TRIALS = {
    "nft": ["nft", "add table inet t"],
    "nft_tcp_option": [
        "nft",
        "add table inet t; add chain inet t c; add rule inet t c tcp option mptcp exists drop",
    ],
    "nft_tcp_option_reset": [
        "nft",
        "add table inet t; add chain inet t c; add rule inet t c reset tcp option mptcp",
    ],
    "nft_queue": ["nft", "add table inet t; add chain inet t c; add rule inet t c queue num 5"],
    "tbf": [
        "tc",
        "qdisc",
        "add",
        "dev",
        "lo",
        "root",
        "tbf",
        "rate",
        "8mbit",
        "burst",
        "32k",
        "latency",
        "50ms",
    ],
    "netem": ["tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"],
}


def read_capabilities() -> Json:
    """What works here, each found by using it: {name: {"ok": bool, "errno": int|None, "reason": str}}."""
    found: Json = {"legacy": {"ok": LEGACY.exists(), "errno": None, "reason": str(LEGACY)}}
    found.update(_socket_capabilities())
    trials = {}
    for name, argv in SCRATCH_TRIALS.items():
        trials[name] = subprocess.Popen(
            ["unshare", "--net", *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    for name, process in trials.items():
        out = process.communicate(timeout=20)[0].decode(errors="replace").strip()
        found[name] = {"ok": process.returncode == 0, "errno": None, "reason": out.partition("\n")[0]}
    return found


def _attempt(action: Callable[[], object]) -> Json:
    try:
        action()
    except OSError as error:
        return {
            "ok": False,
            "errno": error.errno,
            "reason": errno.errorcode.get(error.errno or 0, str(error)),
        }
    return {"ok": True, "errno": None, "reason": ""}


def _socket_capabilities() -> Json:
    """A connection to itself over the loopback device shows which socket options the kernel has."""
    found = {"packet_socket": _attempt(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close())}
    found["mptcp"] = _attempt(lambda: new_socket("127.0.0.1", "mptcp").close())
    protocol = "mptcp" if found["mptcp"]["ok"] else "tcp"
    with (
        open_listener("127.0.0.1", 0, protocol, None, 1) as listener,
        new_socket("127.0.0.1", protocol) as client,
    ):
        client.settimeout(2)
        client.connect(listener.getsockname())
        found["tcp_is_mptcp"] = _attempt(lambda: client.getsockopt(socket.IPPROTO_TCP, TCP_IS_MPTCP))
        found["mptcp_info"] = _attempt(lambda: client.getsockopt(SOL_MPTCP, MPTCP_INFO, 256))
        found["mptcp_full_info"] = _attempt(lambda: read_full_info(client))
        found["mptcp_subflow_addrs"] = _attempt(lambda: read_subflow_addresses(client))
    if LEGACY.exists():
        found["tcp_is_mptcp"] = {
            "ok": False,
            "errno": None,
            "reason": "legacy kernel: option 43 means something else",
        }
    return found


# ---------------------------------------------------------------------------------------------------------
# 10 Faults, each with its undo written down first, and a keeper that lifts them when their time is over
# ---------------------------------------------------------------------------------------------------------
#
# A record /run/mptcp-lab/faults/ID.json is synced before the fault is applied. It holds the steps that undo
# it (names of UNDO and their arguments); every step may be run twice, or when the fault was never applied.
# The keeper is a process of its own, outside the SSH session: it needs no probe, no network, no controller.

FAULTS = RUN / "faults"
MANAGEMENT: list[str] = []  # this host's address of the controller's connection, where it has one
KEEPER_PERIOD, KEEPER_IDLE = 0.2, 10.0
LOCK_PATIENCE = (
    10.0  # of a probe; a keeper goes on after KEEPER_PATIENCE, as who holds the lock may be frozen
)
KEEPER_PATIENCE = 2.0
UNDO_TRIES = 30
TTL_RANGE = (0.5, 3600.0)


class Plan:
    """What a fault touches (no two faults may touch the same), how to undo it, and how to apply it."""

    def __init__(self, touches: str, undo: list[tuple[str, Json]], apply: Callable[[], object]) -> None:
        self.touches = touches
        self.undo = undo
        self.apply = apply


# --- undo steps


def undo_nft_table(name: str) -> None:
    """Delete a table, whether it is there or not."""
    run_tool(["nft", f"add table inet {name}; delete table inet {name}"])


def undo_device(device: str, up: bool, addresses: list[list[str]], routes: list[list[str]]) -> None:
    """Bring a device's flags, addresses and routes back: what is missing is added."""
    if up:
        run_tool(["ip", "link", "set", device, "up"])
    present = [argv[0] for argv in device_addresses(device)]
    for argv in addresses:
        if argv[0] not in present:
            run_tool(["ip", "address", "replace", *argv, "dev", device])
    for family in ("-4", "-6"):
        there = route_lines(family)
        missing = [line for kind, line in routes if kind == family and line not in there]
        for line in sorted(missing, key=lambda text: " via " in text):  # a gateway needs its link route first
            run_tool(["ip", family, "route", "append", *line.split()])


def undo_link_up(device: str) -> None:
    """Take a device down."""
    run_tool(["ip", "link", "set", device, "down"])


def undo_endpoint(address: str, before: Json | None) -> None:
    """Make the endpoint with this address what it was, or go away."""
    with PathManager() as manager:
        now = {endpoint["address"]: endpoint for endpoint in manager.endpoints()}.get(address)
        # A join to an address without an endpoint makes an implicit one, which no flags turn into another.
        if now and (before is None or before["id"] != now["id"] or "implicit" in now["flags"]):
            manager.delete(now)
            now = None
        if before and not now:
            for other in manager.endpoints():  # the kernel's own may have taken the id meanwhile
                if other["id"] == before["id"] and "implicit" in other["flags"]:
                    manager.delete(other)
            manager.add(before)
        elif before and now and before["flags"] != now["flags"]:
            manager.set_flags(before)


def undo_limits(subflows: int, add_addr_accepted: int) -> None:
    """Set MPTCP limits."""
    with PathManager() as manager:
        manager.set_limits(subflows, add_addr_accepted)


def undo_sysctls(values: dict[str, str]) -> None:
    """Write those sysctls (by path) that differ."""
    for name, value in values.items():
        path = Path(name)
        if path.exists() and path.read_text().strip() != value:
            path.write_text(value)


def undo_routes(family: str, keys: list[list[str]], lines: list[str]) -> None:
    """Make the routes to these (destination, table) what they were."""
    wanted = [tuple(key) for key in keys]
    now = [line for line in route_lines(family) if route_key(line) in wanted]
    for line in now:
        if line not in lines:
            run_tool(["ip", family, "route", "del", *line.split()])
    for line in lines:
        if line not in now:
            run_tool(["ip", family, "route", "append", *line.split()])


def undo_rules(family: str, lines: list[str]) -> None:
    """Make the rules what they were."""
    now = rule_lines(family)
    for line in now:
        if line not in lines:
            run_tool(["ip", family, "rule", "del", *line.split()])
    for line in lines:
        if line not in now:
            run_tool(["ip", family, "rule", "add", *line.split()])


def undo_qdisc(device: str, kind: str) -> None:
    """Remove a root qdisc of this kind; the kernel puts its default back."""
    if root_qdisc(device)["kind"] == kind:
        run_tool(["tc", "qdisc", "del", "dev", device, "root"])


def undo_signal(number: int, unit: str | None = None, pid: int | None = None, started: str = "") -> None:
    """Signal a unit's processes, or a process unless its id belongs to another one by now."""
    if unit is not None:
        run_tool(["systemctl", "kill", f"--signal={number}", unit])
    elif pid is not None and process_started(pid) == started:
        os.kill(pid, number)


def undo_unit(unit: str) -> None:
    """Start a unit again, whatever became of it."""
    with contextlib.suppress(AgentError):  # systemd has forgotten units that stopped without a failure
        run_tool(["systemctl", "reset-failed", unit])
    run_tool(["systemctl", "start", unit])


UNDO: dict[str, Callable[..., None]] = {
    "nft_table": undo_nft_table,
    "device": undo_device,
    "link_up": undo_link_up,
    "endpoint": undo_endpoint,
    "limits": undo_limits,
    "sysctls": undo_sysctls,
    "routes": undo_routes,
    "rules": undo_rules,
    "qdisc": undo_qdisc,
    "signal": undo_signal,
    "unit": undo_unit,
}

# --- what the steps read


def device_addresses(device: str) -> list[list[str]]:
    """A device's addresses as arguments of `ip address add`; link-local ones come back by themselves."""
    found = []
    for entry in json.loads(run_tool(["ip", "-j", "address", "show", "dev", device]))[0]["addr_info"]:
        if entry["family"] == "inet6" and entry["scope"] == "link":
            continue
        argv = [f"{entry['local']}/{entry['prefixlen']}"]
        for option in ("broadcast", "label"):
            if option in entry:
                argv += [option, entry[option]]
        found.append(argv + (["nodad"] if entry["family"] == "inet6" else ["scope", entry["scope"]]))
    return found


def route_lines(family: str) -> list[str]:
    """Every route that was not made by the kernel for an address, as `ip route` takes it."""
    lines = run_tool(["ip", "-o", family, "route", "show", "table", "all"]).replace("\\", " ").splitlines()
    volatile = {"linkdown", "dead", "offload", "trap", "rt_offload", "rt_trap"}
    words = [[word for word in line.split() if word not in volatile] for line in lines]
    return [" ".join(line) for line in words if "proto kernel" not in " ".join(line)]


def route_key(line: str) -> tuple[str, str]:
    """(destination, table) of a route as `ip route` prints or takes it."""
    words = line.split()
    kinds = (
        "unicast",
        "local",
        "broadcast",
        "multicast",
        "anycast",
        "blackhole",
        "unreachable",
        "prohibit",
        "throw",
    )
    destination = words[1] if words[0] in kinds else words[0]
    table = words[words.index("table") + 1] if "table" in words else "main"
    if destination != "default":
        network = ipaddress.ip_network(destination, strict=False)
        destination = "default" if network.prefixlen == 0 else str(network)
    return destination, {"254": "main", "255": "local", "253": "default"}.get(table, table)


def rule_lines(family: str) -> list[str]:
    """Every rule as `ip rule` takes it."""
    lines = run_tool(["ip", family, "rule", "show"]).splitlines()
    return ["priority " + line.replace(":\t", " ", 1).replace("[detached]", "").strip() for line in lines]


def root_qdisc(device: str) -> Json:
    """The root qdisc of a device."""
    qdiscs: list[Json] = json.loads(run_tool(["tc", "-j", "qdisc", "show", "dev", device]))
    return next((qdisc for qdisc in qdiscs if qdisc.get("root")), {"kind": "noqueue", "handle": "0:"})


def process_started(pid: int) -> str:
    """When a process was started (field 22 of /proc/PID/stat), "" when it does not run: tells used ids."""
    try:
        return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def refuse_management(device: str) -> None:
    """A device that carries the controller's connection is never touched, nor is the loopback."""
    addresses = [argv[0].partition("/")[0] for argv in device_addresses(device)]
    if device == "lo" or set(MANAGEMENT) & set(addresses):
        raise AgentError("refused", f"{device} is the loopback or carries the management connection")


def require(capability: str) -> None:
    """Raise "unsupported", naming the capability, when trying it out fails."""
    done = subprocess.run(["unshare", "--net", *SCRATCH_TRIALS[capability]], capture_output=True, check=False)
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().partition("\n")[0]
        raise AgentError("unsupported", reason, capability=capability)


def require_unit(unit: str) -> None:
    """Raise "unsupported" where there is no systemd, "refused" for a unit that does not run."""
    if not Path("/run/systemd/system").is_dir():
        raise AgentError("unsupported", "systemd does not run here", capability="systemd")
    done = subprocess.run(["systemctl", "is-active", unit], capture_output=True, text=True, check=False)
    if done.returncode:
        raise AgentError("refused", f"{unit} does not run: it is {done.stdout.strip()}")


# --- packet filter faults

HOOKS = {
    "in": [("input", False)],
    "out": [("output", False)],
    "both": [("input", False), ("output", True)],
    "forward": [("forward", False)],
}
PACKETS = {
    "syn": "tcp flags & (syn | ack) == syn ",
    "synack": "tcp flags & (syn | ack) == (syn | ack) ",
    "all": "",
}


def nft_match(
    hook: str,
    swapped: bool,
    source: str | None = None,
    destination: str | None = None,
    sport: int | None = None,
    dport: int | None = None,
    device: str | None = None,
    out_device: str | None = None,
) -> str:
    """The match of a rule. `swapped` is for the answers: addresses and ports change places."""
    if not any((source, destination, sport, dport, device, out_device)):
        raise AgentError("refused", "a packet fault names at least one address, port or device")
    if swapped:
        source, destination, sport, dport = destination, source, dport, sport
    words = []
    for side, address in (("saddr", source), ("daddr", destination)):
        if address is not None:
            network = ipaddress.ip_network(address, strict=False)
            words.append(f"{'ip' if network.version == 4 else 'ip6'} {side} {network}")
    for name, key in ((device, "oifname" if hook == "output" else "iifname"), (out_device, "oifname")):
        if name is not None:
            socket.if_nametoindex(name)
            words.append(f'{key} "{name}"')
    words.append("meta l4proto tcp")
    words += [
        f"tcp {side} {int(port)}" for side, port in (("sport", sport), ("dport", dport)) if port is not None
    ]
    return " ".join(words) + " "


def packet_fault(fault: str, rule: str, direction: str, match: Json, capability: str = "nft") -> Plan:
    """A table of its own with `rule` for the packets that match."""
    require(capability)
    if match.get("device") and not match.keys() - {"device"}:
        refuse_management(match["device"])
    table = f"mptcp_lab_{fault}"
    lines = [f"add table inet {table}"]
    for hook, swapped in HOOKS[direction]:
        kind = f"{{ type filter hook {hook} priority -150; policy accept; }}"
        lines.append(f"add chain inet {table} {hook} {kind}")
        lines.append(f"add rule inet {table} {hook} {nft_match(hook, swapped, **match)}{rule}")
    return Plan(
        table, [("nft_table", {"name": table})], lambda: run_tool(["nft", "-f", "-"], "\n".join(lines))
    )


def plan_drop(fault: str, direction: str = "in", **match: Any) -> Plan:
    """Drop TCP packets. "both" drops what matches on its way in and the answers on their way out."""
    return packet_fault(fault, "drop", direction, match)


def plan_reject(fault: str, direction: str = "in", **match: Any) -> Plan:
    """Answer TCP packets with RST."""
    return packet_fault(fault, "reject with tcp reset", direction, match)


def plan_strip_option(fault: str, direction: str = "forward", packets: str = "all", **match: Any) -> Plan:
    """Take the MPTCP option out of SYNs, of SYN/ACKs or of all packets."""
    return packet_fault(
        fault, PACKETS[packets] + "reset tcp option mptcp", direction, match, "nft_tcp_option_reset"
    )


def plan_drop_option(fault: str, direction: str = "forward", **match: Any) -> Plan:
    """Drop SYNs that carry the MPTCP option."""
    return packet_fault(
        fault, PACKETS["syn"] + "tcp option mptcp exists drop", direction, match, "nft_tcp_option"
    )


NFNL_BATCH_BEGIN, NFNL_BATCH_END, NFT_NEWRULE, NFPROTO_INET, NETLINK_NETFILTER = (
    0x10,
    0x11,
    (10 << 8) | 6,
    1,
    12,
)
NLM_F_CREATE, NLM_F_APPEND = 0x400, 0x800
DOFFS = range(5, 16)  # TCP header lengths in words
TRANSPORT_BASE, REGISTER, CHECKSUM_INET, TCP_CHECKSUM_OFFSET = 2, 1, 1, 16


def _be32(kind: int, value: int) -> bytes:
    return pack_attr(kind, struct.pack("!I", value))


def _nest(kind: int, *attrs: bytes) -> bytes:
    return pack_attr(kind | NLA_F_NESTED, b"".join(attrs))


def add_flip_rule(table: str, chain: str, offset: int, mask: bytes) -> None:
    """Append a rule that XORs two bytes at `offset` of the TCP segment and mends the checksum.

    The nft tool cannot say "mend the checksum of a raw payload", the kernel can (nft_payload).
    """
    where = _be32(2, TRANSPORT_BASE) + _be32(3, offset) + _be32(4, len(mask))
    zero = _nest(4, pack_attr(1, b"\xff" * len(mask)))
    expressions = (
        ("payload", _be32(1, REGISTER) + where),
        (
            "bitwise",
            _be32(1, REGISTER)
            + _be32(2, REGISTER)
            + _be32(3, len(mask))
            + zero
            + _nest(5, pack_attr(1, mask)),
        ),
        ("payload", where + _be32(5, REGISTER) + _be32(6, CHECKSUM_INET) + _be32(7, TCP_CHECKSUM_OFFSET)),
    )
    elements = [_nest(1, pack_attr(1, name.encode() + b"\0"), _nest(2, data)) for name, data in expressions]
    rule = pack_attr(1, table.encode() + b"\0") + pack_attr(2, chain.encode() + b"\0") + _nest(4, *elements)
    batch = struct.pack("!BBH", 0, 0, 10)
    flags = NLM_F_CREATE | NLM_F_APPEND
    messages = (
        (NFNL_BATCH_BEGIN, 0, batch),
        (NFT_NEWRULE, flags | NLM_F_ACK, struct.pack("!BBH", NFPROTO_INET, 0, 0) + rule),
        (NFNL_BATCH_END, 0, batch),
    )
    with Netlink(NETLINK_NETFILTER) as netlink:
        netlink.send(messages)
        netlink.receive()


def plan_flip(
    fault: str, position: int = 0, mask: int = 0xFF, direction: str = "forward", every: int = 1, **match: Any
) -> Plan:
    """XOR the payload byte at `position` of every n-th segment with `mask`; the TCP checksum is made right.

    Shorter segments pass unchanged. There is a chain per TCP header length, as that moves the payload.
    """
    chosen = f"numgen inc mod {int(every)} 0 " if every > 1 else ""
    jumps = ", ".join(f"{words} : jump doff{words}" for words in DOFFS)
    plan = packet_fault(fault, f"{chosen}tcp doff vmap {{ {jumps} }}", direction, match)
    # two bytes, as the kernel sums 16-bit words
    pair = bytes([0, mask]) if position % 2 else bytes([mask, 0])
    create = plan.apply

    def apply() -> None:
        lines = [f"add table inet {plan.touches}"] + [f"add chain inet {plan.touches} doff{n}" for n in DOFFS]
        run_tool(["nft", "-f", "-"], "\n".join(lines))
        for words in DOFFS:
            add_flip_rule(plan.touches, f"doff{words}", words * 4 + position - position % 2, pair)
        create()

    return Plan(plan.touches, plan.undo, apply)


# --- device faults


def device_undo(device: str) -> list[tuple[str, Json]]:
    """The step that brings back what a device loses when it goes down or loses an address."""
    addresses = device_addresses(device)
    marks = [f" dev {device} "] + [f" src {argv[0].partition('/')[0]} " for argv in addresses]
    routes = [
        [family, line]
        for family in ("-4", "-6")
        for line in route_lines(family)
        if any(mark in f"{line} " for mark in marks)
    ]
    link = json.loads(run_tool(["ip", "-j", "link", "show", "dev", device]))[0]
    undo = {"device": device, "up": "UP" in link["flags"], "addresses": addresses, "routes": routes}
    return [("device", undo)]


def plan_link_down(_fault: str, device: str) -> Plan:
    """Take a NIC down."""
    refuse_management(device)
    return Plan(
        f"device {device}", device_undo(device), lambda: run_tool(["ip", "link", "set", device, "down"])
    )


def plan_link_up(_fault: str, device: str, address: str | None = None) -> Plan:
    """Bring up a NIC that is down; afterwards it is down again.

    `address`, one of its own, comes after the link, as from DHCP: daemons hear of it by that event.
    """
    refuse_management(device)
    if "UP" in json.loads(run_tool(["ip", "-j", "link", "show", "dev", device]))[0]["flags"]:
        raise AgentError("refused", f"{device} is up already")
    later = [] if address is None else [matching_address(device, address)]

    def apply() -> None:
        for argv in later:
            run_tool(["ip", "address", "del", argv[0], "dev", device])
        run_tool(["ip", "link", "set", device, "up"])
        for argv in later:
            run_tool(["ip", "address", "replace", *argv, "dev", device])

    undo = [*endpoints_undo(device), *device_undo(device), ("link_up", {"device": device})]
    return Plan(f"device {device}", undo, apply)


def endpoints_undo(device: str) -> list[tuple[str, Json]]:
    """The steps that bring the limits and the endpoints of a device's addresses back.

    A daemon (seen of mptcpd 0.13) makes endpoints and raises limits for a device that comes up, and leaves
    both when it goes down.
    """
    with contextlib.suppress(AgentError), PathManager() as manager:
        known = {endpoint["address"]: endpoint for endpoint in manager.endpoints()}
        addresses = [argv[0].partition("/")[0] for argv in device_addresses(device)]
        endpoints = [("endpoint", {"address": each, "before": known.get(each)}) for each in addresses]
        return [("limits", manager.limits()), *endpoints]
    return []


def matching_address(device: str, address: str) -> list[str]:
    """An address of a NIC with its prefix length, as `ip address` takes it."""
    for argv in device_addresses(device):
        if argv[0].partition("/")[0] == address.partition("/")[0]:
            return argv
    raise AgentError("refused", f"{device} has no address {address}")


def plan_address_remove(_fault: str, device: str, address: str) -> Plan:
    """Remove an address from a NIC."""
    refuse_management(device)
    matching = matching_address(device, address)[0]
    return Plan(
        f"device {device}",
        device_undo(device),
        lambda: run_tool(["ip", "address", "del", matching, "dev", device]),
    )


def qdisc_fault(device: str, kind: str, options: list[str]) -> Plan:
    """A root qdisc on a NIC that has none but the kernel's default."""
    refuse_management(device)
    require(kind)
    present = root_qdisc(device)
    if present["handle"] != "0:":
        raise AgentError(
            "refused", f"{device} has a {present['kind']} qdisc already; a fault does not replace it"
        )
    argv = ["tc", "qdisc", "add", "dev", device, "root", kind, *options]
    return Plan(f"qdisc {device}", [("qdisc", {"device": device, "kind": kind})], lambda: run_tool(argv))


def plan_rate(_fault: str, device: str, mbit: float, burst_kb: int = 32, latency_ms: float = 50) -> Plan:
    """Limit what leaves by a NIC."""
    options = [
        "rate",
        f"{round(mbit * 1e6)}bit",
        "burst",
        f"{int(burst_kb)}k",
        "latency",
        f"{float(latency_ms)}ms",
    ]
    return qdisc_fault(device, "tbf", options)


def plan_netem(
    _fault: str, device: str, delay_ms: float = 0, jitter_ms: float = 0, loss_percent: float = 0
) -> Plan:
    """Delay or lose what leaves by a NIC."""
    options = ["delay", f"{float(delay_ms)}ms", f"{float(jitter_ms)}ms", "loss", f"{float(loss_percent)}%"]
    return qdisc_fault(device, "netem", options)


# --- faults in settings


def find_endpoint(address: str) -> Json | None:
    """The MPTCP endpoint with this address."""
    with PathManager() as manager:
        return {endpoint["address"]: endpoint for endpoint in manager.endpoints()}.get(address)


def _present_endpoint(address: str) -> Json:
    endpoint = find_endpoint(address)
    if endpoint is None:
        raise AgentError("refused", f"there is no endpoint {address}")
    return endpoint


def _with_path_manager(action: Callable[[PathManager], None]) -> Callable[[], None]:
    def apply() -> None:
        with PathManager() as manager:
            action(manager)

    return apply


def plan_endpoint_remove(_fault: str, address: str) -> Plan:
    """Remove an MPTCP endpoint."""
    before = _present_endpoint(address)
    undo: list[tuple[str, Json]] = [("endpoint", {"address": address, "before": before})]
    return Plan(f"endpoint {address}", undo, _with_path_manager(lambda manager: manager.delete(before)))


def plan_endpoint_change(_fault: str, address: str, flags: list[str]) -> Plan:
    """Change "backup" and "fullmesh" of an MPTCP endpoint; `flags` are all it shall have."""
    before = _present_endpoint(address)
    undo: list[tuple[str, Json]] = [("endpoint", {"address": address, "before": before})]
    after = {**before, "flags": flags}
    return Plan(f"endpoint {address}", undo, _with_path_manager(lambda manager: manager.set_flags(after)))


def plan_endpoint_add(
    _fault: str, address: str, device: str = "", flags: tuple[str, ...] = (), port: int = 0
) -> Plan:
    """Add an MPTCP endpoint."""
    undo: list[tuple[str, Json]] = [("endpoint", {"address": address, "before": None})]
    if find_endpoint(address) is not None:
        raise AgentError("refused", f"there is an endpoint {address} already")
    new = {"address": address, "device": device, "flags": list(flags), "port": port}
    return Plan(f"endpoint {address}", undo, _with_path_manager(lambda manager: manager.add(new)))


def plan_limits(_fault: str, subflows: int | None = None, add_addr_accepted: int | None = None) -> Plan:
    """Change MPTCP limits."""
    with PathManager() as manager:
        before = manager.limits()
    first = before["subflows"] if subflows is None else subflows
    second = before["add_addr_accepted"] if add_addr_accepted is None else add_addr_accepted
    return Plan(
        "limits", [("limits", before)], _with_path_manager(lambda manager: manager.set_limits(first, second))
    )


def plan_sysctl(_fault: str, name: str, value: str | int) -> Plan:
    """Change a sysctl below net; those that the kernel changes along with it are brought back too."""
    path = PROC_SYS.joinpath(*(part.replace("/", ".") for part in name.split(".")))
    if not name.startswith("net.") or ".." in path.parts or not path.exists():
        raise AgentError("refused", f"{name}: there is no such sysctl below net")
    related = [path]
    if path.name in ("ip_forward", "forwarding"):
        family = "ipv6" if "ipv6" in path.parts else "ipv4"
        for other in ("forwarding", "accept_redirects"):
            related += sorted((PROC_SYS / "net" / family / "conf").glob(f"*/{other}"))
    values = {str(one): one.read_text().strip() for one in related}
    return Plan(f"sysctl {name}", [("sysctls", {"values": values})], lambda: path.write_text(str(value)))


def _family(version: int) -> str:
    return {4: "-4", 6: "-6"}[version]


def plan_routes(_fault: str, commands: list[str], version: int = 4) -> Plan:
    """Run `ip route COMMAND` ("add ...", "del ...", "replace ..."), which name destination and table."""
    family = _family(version)
    keys = [route_key(command.partition(" ")[2]) for command in commands]
    lines = [line for line in route_lines(family) if route_key(line) in keys]

    def apply() -> None:
        for command in commands:
            run_tool(["ip", family, "route", *command.split()])

    return Plan(f"routes {family}", [("routes", {"family": family, "keys": keys, "lines": lines})], apply)


def plan_rules(_fault: str, commands: list[str], version: int = 4) -> Plan:
    """Run `ip rule COMMAND` ("add ...", "del ..."). Afterwards all rules are what they were."""
    family = _family(version)

    def apply() -> None:
        for command in commands:
            run_tool(["ip", family, "rule", *command.split()])

    return Plan(f"rules {family}", [("rules", {"family": family, "lines": rule_lines(family)})], apply)


# --- faults in processes


def plan_stall(_fault: str, unit: str | None = None, pid: int | None = None) -> Plan:
    """Stop the processes of a unit, or one process (SIGSTOP); they go on afterwards (SIGCONT)."""
    if unit is not None:
        require_unit(unit)
    elif pid is None or not process_started(pid):
        raise AgentError("refused", f"give a unit, or a process that runs (pid is {pid})")
    who: Json = {"unit": unit, "pid": pid, "started": "" if pid is None else process_started(pid)}
    undo: list[tuple[str, Json]] = [("signal", {"number": int(signal.SIGCONT), **who})]
    return Plan(f"process {unit or pid}", undo, lambda: undo_signal(int(signal.SIGSTOP), **who))


def plan_kill(_fault: str, unit: str) -> Plan:
    """Kill the processes of a unit (SIGKILL); it is started afterwards unless systemd did that already."""
    require_unit(unit)
    argv = ["systemctl", "kill", "--signal=KILL", unit]
    return Plan(f"process {unit}", [("unit", {"unit": unit})], lambda: run_tool(argv))


def plan_unit_stop(_fault: str, unit: str) -> Plan:
    """Stop a unit; it is started afterwards."""
    require_unit(unit)
    return Plan(f"process {unit}", [("unit", {"unit": unit})], lambda: run_tool(["systemctl", "stop", unit]))


PLANS: dict[str, Callable[..., Plan]] = {
    "drop": plan_drop,
    "reject": plan_reject,
    "strip_option": plan_strip_option,
    "drop_option": plan_drop_option,
    "flip": plan_flip,
    "link_down": plan_link_down,
    "link_up": plan_link_up,
    "address_remove": plan_address_remove,
    "rate": plan_rate,
    "netem": plan_netem,
    "endpoint_remove": plan_endpoint_remove,
    "endpoint_change": plan_endpoint_change,
    "endpoint_add": plan_endpoint_add,
    "limits": plan_limits,
    "sysctl": plan_sysctl,
    "routes": plan_routes,
    "rules": plan_rules,
    "stall": plan_stall,
    "kill": plan_kill,
    "unit_stop": plan_unit_stop,
}

# --- records, and the lock that orders who writes, applies and lifts


@contextlib.contextmanager
def file_lock(path: Path, patience: float, go_on: bool = False) -> Iterator[None]:
    """Hold an flock(2). When it cannot be had in time: an error, or (`go_on`) without it."""
    make_run_folder()
    path.parent.mkdir(mode=0o700, exist_ok=True)
    deadline = time.monotonic() + patience
    with path.open("a") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    if go_on:
                        break
                    raise AgentError(
                        "locked", f"another process has held {path} for {patience:g} s"
                    ) from None
                time.sleep(0.005)
        yield


def fault_lock(
    patience: float = LOCK_PATIENCE, go_on: bool = False
) -> contextlib.AbstractContextManager[None]:
    """The lock over fault records."""
    return file_lock(FAULTS / "lock", patience, go_on)


def write_synced(path: Path, document: Json) -> None:
    """Replace a file so that it is either the old or the new one, and on disk."""
    temporary = path.with_suffix(".new")
    with temporary.open("w") as file:
        json.dump(document, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def read_faults() -> list[Json]:
    """Every record, the oldest first."""
    records = []
    for path in FAULTS.glob("*.json"):
        with contextlib.suppress(OSError, ValueError):  # lifted just now
            records.append(json.loads(path.read_text()))
    return sorted(records, key=lambda record: float(record["since"]))


def apply_fault(kind: str, ttl: float, params: Json) -> str:
    """Write the undo down, see to it that a keeper runs, apply. Returns the fault's id."""
    if kind not in PLANS:
        raise ValueError(f"fault {kind!r}: use one of {', '.join(PLANS)}")
    if not TTL_RANGE[0] <= ttl <= TTL_RANGE[1]:
        raise ValueError(f"ttl {ttl}: use {TTL_RANGE[0]:g} to {TTL_RANGE[1]:g} s")
    fault = os.urandom(4).hex()
    record_file = FAULTS / f"{fault}.json"
    with fault_lock():
        plan = PLANS[kind](fault, **params)
        for other in read_faults():
            if other["touches"] == plan.touches:
                raise AgentError(
                    "conflict", f"fault {other['kind']} ({other['id']}) touches {plan.touches} already"
                )
        now = time.monotonic()
        record: Json = {"id": fault, "kind": kind, "params": params, "owner": os.getpid()}
        record |= {"touches": plan.touches, "undo": plan.undo}
        write_synced(record_file, {**record, "since": now, "deadline": now + ttl, "tries": 0, "error": ""})
        try:
            ensure_keeper()
            plan.apply()
            if not record_file.exists():  # we were frozen, and the keeper lifted it in the meantime
                run_undo(plan.undo)
        except BaseException:
            _undo_and_forget(record_file)
            raise
    return fault


def run_undo(steps: list[Any]) -> None:
    """Run undo steps, the last one first."""
    for name, args in reversed(steps):
        UNDO[name](**args)


def lift_fault(fault: str, patience: float = LOCK_PATIENCE, go_on: bool = False) -> bool:
    """Undo a fault and forget it; False when it was lifted before. A failure is recorded and raised."""
    with fault_lock(patience, go_on):
        return _undo_and_forget(FAULTS / f"{fault}.json")


def _undo_and_forget(path: Path) -> bool:
    try:
        record = json.loads(path.read_text())
    except FileNotFoundError:
        return False
    try:
        run_undo(record["undo"])
    except (AgentError, OSError) as error:
        write_synced(path, {**record, "tries": record["tries"] + 1, "error": str(error)})
        raise
    path.unlink()
    return True


class AppliedFault:
    """A fault of this probe; lifted when the probe ends."""

    def __init__(self, fault: str) -> None:
        self.fault = fault

    def close(self) -> bool:
        """Lift it; False when its time was over before."""
        return lift_fault(self.fault)


def recover_faults() -> list[Json]:
    """For a probe that starts: lift what is over its time, see that the rest has a keeper, report all."""
    if not FAULTS.is_dir():
        return []
    found = []
    for record in read_faults():
        expired = record["deadline"] <= time.monotonic()
        if expired:
            with contextlib.suppress(AgentError, OSError):
                lift_fault(record["id"])
        found.append(
            {"id": record["id"], "kind": record["kind"], "params": record["params"], "expired": expired}
        )
    with fault_lock():
        if read_faults():
            ensure_keeper()
    return found


# --- the keeper


def ensure_keeper() -> None:
    """Start a keeper unless one runs, and wait until it does. The caller holds fault_lock."""
    try:
        with file_lock(FAULTS / "keeper.lock", 0):
            pass
    except AgentError:
        return  # a keeper holds it for as long as it lives
    program = RUN / "keeper.py"
    source = globals().get("AGENT_SOURCE") or Path(__file__).read_bytes()
    program.write_bytes(source)
    if Path("/run/systemd/system").is_dir():
        unit = [
            "systemd-run",
            "--quiet",
            "--collect",
            "--service-type=notify",
            "--property=Restart=on-failure",
        ]
        run_tool(
            [*unit, f"--unit=mptcp-lab-keeper-{os.urandom(4).hex()}", sys.executable, str(program), "keeper"]
        )
        return
    starter = subprocess.Popen(
        [sys.executable, str(program), "keeper", "--detach"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
    )
    out, _ = starter.communicate()
    if out != b"ready\n":
        raise AgentError(
            "keeper", "the keeper that would lift the fault did not start; the fault is not applied"
        )


def keeper_main(detach: bool) -> int:
    """Lift every fault when its time is over; end when there has been none for a while."""
    if detach and os.fork():
        return 0
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with contextlib.ExitStack() as life:
        life.enter_context(file_lock(FAULTS / "keeper.lock", 1.0))
        notify("READY=1")
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        busy = time.monotonic()
        while True:
            _lift_due()
            with fault_lock(KEEPER_PATIENCE, go_on=True):
                if any(record["tries"] < UNDO_TRIES for record in read_faults()):
                    busy = time.monotonic()
                elif time.monotonic() - busy > KEEPER_IDLE:
                    life.close()  # while no record can be written: the next fault will find no keeper
                    return 0
            time.sleep(KEEPER_PERIOD)


def _lift_due() -> None:
    for record in read_faults():
        # an undo that failed is tried again, a second later each time
        if record["tries"] < UNDO_TRIES and record["deadline"] + record["tries"] <= time.monotonic():
            with contextlib.suppress(AgentError, OSError):
                lift_fault(record["id"], KEEPER_PATIENCE, go_on=True)


# ---------------------------------------------------------------------------------------------------------
# 11 The lease: who uses this host
# ---------------------------------------------------------------------------------------------------------

LEASE = RUN / "lease"


@contextlib.contextmanager
def held_lease() -> Iterator[Json | None]:
    """The lease in force, None when there is none, under its lock."""
    with file_lock(RUN / "lease.lock", LOCK_PATIENCE):
        try:
            lease = json.loads(LEASE.read_text())
        except (FileNotFoundError, ValueError):
            lease = None
        yield lease if lease and lease["expires"] > time.monotonic() else None


def take_lease(owner: str, run: str, ttl: float) -> Json:
    """Take the lease or prolong one's own. "lease-busy" tells whose it is and until when (wall clock)."""
    with held_lease() as held:
        if held and held["run"] != run:
            until = time.time() + held["expires"] - time.monotonic()
            message = f"{held['owner']} holds this host for {until - time.time():.0f} s more"
            raise AgentError("lease-busy", message, owner=held["owner"], run=held["run"], until=until)
        lease = {"owner": owner, "run": run, "expires": time.monotonic() + ttl}
        write_synced(LEASE, lease)
    return lease


def refresh_lease(run: str, ttl: float) -> None:
    """Prolong one's own lease; "lease-lost" when it expired or somebody else has it."""
    with held_lease() as held:
        if held is None or held["run"] != run:
            raise AgentError(
                "lease-lost", f"the lease {'expired' if held is None else 'is ' + held['owner'] + 's'}"
            )
        write_synced(LEASE, {**held, "expires": time.monotonic() + ttl})


def release_lease(run: str) -> bool:
    """Give one's own lease back; False when it was not one's own any more."""
    with held_lease() as held:
        if held is None or held["run"] != run:
            return False
        LEASE.unlink()
    return True


# ---------------------------------------------------------------------------------------------------------
# 12 The origin service: B of the scenarios
# ---------------------------------------------------------------------------------------------------------
#
# A client's first line is `MPTCPLAB/1 <mode> <tag> [key=value...]\n`:
#   echo     send back what arrives
#   sink     read everything; at the end of the stream answer one JSON line with bytes and sha256
#   source   send `bytes=` of pattern (`seed=`, `pattern=`)
#   duplex   read everything and send pattern at the same time
# Bytes and digests in records do not count that line, nor a PROXY header.
# One thread and one selector: a thousand connections cost a thousand small records, not a thousand stacks.

GREETING_LIMIT = 512
RECORDS_KEPT = 20000  # closed connections remembered
TIMELINES_KEPT = 500  # of those, how many of the newest keep their timeline
BACKLOG_BYTES = 262144  # an echo that is not read back stops reading at this
PROXY_V2 = b"\r\n\r\n\0\r\nQUIT\n"
MODES = ("echo", "sink", "source", "duplex")


class BadStart(Exception):
    """What came first on a connection is not what it has to be."""


class Incomplete(Exception):
    """More bytes are needed."""


def parse_proxy_header(data: bytes) -> tuple[Json, int]:
    """A PROXY protocol header, version 1 or 2 (haproxy's proxy-protocol.txt): (what it says, its length)."""
    if data[: len(PROXY_V2)] == PROXY_V2[: len(data)]:
        return _proxy_v2(data)
    if data[:6] != b"PROXY "[: len(data)]:
        raise BadStart("no PROXY protocol header")
    line, found, _ = data.partition(b"\r\n")
    if not found:
        if len(data) > 107:
            raise BadStart("PROXY protocol line longer than 107 bytes")
        raise Incomplete
    words = line.decode("ascii", "replace").split(" ")
    document: Json = {"version": 1, "family": words[1] if len(words) > 1 else ""}
    if len(words) == 6:
        document["source"] = [words[2], int(words[4])]
        document["destination"] = [words[3], int(words[5])]
    elif document["family"] != "UNKNOWN":
        raise BadStart("malformed PROXY protocol line")
    return document, len(line) + 2


def _proxy_v2(data: bytes) -> tuple[Json, int]:
    if len(data) < 16:
        raise Incomplete
    command, family, length = struct.unpack_from("!BBH", data, 12)
    if command >> 4 != 2:
        raise BadStart(f"PROXY protocol version {command >> 4}")
    if len(data) < 16 + length:
        raise Incomplete
    names = {0x11: "TCP4", 0x21: "TCP6"}
    document: Json = {"version": 2, "family": names.get(family, "LOCAL" if command & 15 == 0 else "UNKNOWN")}
    size = {0x11: 4, 0x21: 16}.get(family)
    if size is not None and command & 15 == 1:
        source, destination = data[16 : 16 + size], data[16 + size : 16 + 2 * size]
        ports = struct.unpack_from("!HH", data, 16 + 2 * size)
        document["source"] = [_text_address(source), ports[0]]
        document["destination"] = [_text_address(destination), ports[1]]
    return document, 16 + length


def parse_greeting(data: bytes) -> tuple[str, str, dict[str, str], int]:
    """(mode, tag, options, length) of the first line."""
    line, found, _ = data.partition(b"\n")
    if not found:
        if len(data) > GREETING_LIMIT:
            raise BadStart(f"no end of line within {GREETING_LIMIT} bytes")
        raise Incomplete
    words = line.decode("ascii", "replace").split()
    if len(words) < 3 or words[0] != "MPTCPLAB/1" or words[1] not in MODES:
        raise BadStart(f"expected 'MPTCPLAB/1 <{'|'.join(MODES)}> <tag> [key=value...]'")
    pairs = (word.partition("=") for word in words[3:])
    return words[1], words[2], {key: value for key, _, value in pairs}, len(line) + 1


class OriginConnection:
    """An accepted connection and its record."""

    def __init__(self, number: int, listener: Json, sock: socket.socket, paused: bool) -> None:
        sock.setblocking(False)
        self.number = number
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
        self._start: bytes | None = b""  # what came before the end of the greeting; None afterwards
        self._received_digest = hashlib.sha256()
        self._sent_digest = hashlib.sha256()
        self._out = bytearray()
        self._to_send = 0
        self._pattern = Pattern(0, "zero")
        self._eof = False
        self._answered = False
        self._shut = False

    def wanted(self) -> int:
        """Which readiness it waits for."""
        read = not self._eof and not self.paused and len(self._out) < BACKLOG_BYTES
        write = bool(self._out) or self._to_send > 0
        return (selectors.EVENT_READ if read else 0) | (selectors.EVENT_WRITE if write else 0)

    def handle(self, mask: int) -> None:
        """Do what is possible now; closes when both directions have ended."""
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
                self._to_send = int(options.get("bytes", "0"))
                self._pattern = Pattern(options.get("seed", "0"), options.get("pattern", "random"))
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
        if not self._out and self._to_send > 0:
            self._out += self._pattern.read(self.sent.total, min(BLOCK, self._to_send))
            self._to_send -= len(self._out)
        if self._out:
            count = self.sock.send(self._out)
            self.sent.add(count)
            self._sent_digest.update(self._out[:count])
            del self._out[:count]

    def _finish(self) -> None:
        """End our direction when there is nothing more to send, the connection when both have ended."""
        if self.mode == "sink" and self._eof and not self._answered:
            self._answered = True
            summary = {"bytes": self.received.total, "sha256": self._received_digest.hexdigest()}
            self._out += json.dumps(summary).encode() + b"\n"
        sends_until_eof = self.mode in ("", "echo", "sink")
        if self._out or self._to_send or (sends_until_eof and not self._eof):
            return
        if not self._shut:
            self._shut = True
            self.record["facts"] = socket_facts(self.sock)
            self.sock.shutdown(socket.SHUT_WR)
        if self._eof:
            self.close("eof", None)

    def close(self, end: str, error: str | None) -> None:
        """Complete the record and close the socket."""
        self.record["facts"] = self.record["facts"] or socket_facts(self.sock)
        self.record.update(end=end, error=error, closed=time.monotonic())
        self.sock.close()
        self.open = False
        self._pattern = Pattern(0, "zero")  # its last block goes: thousands of closed connections are kept

    def forget_timeline(self) -> None:
        """Keep the gaps, drop the points."""
        self.received.points.clear()
        self.sent.points.clear()

    def document(self, timeline: bool) -> Json:
        """The record as JSON."""
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


class Origin:
    """The service: listeners, connections, and the local socket that answers queries about them."""

    def __init__(self, config: Json) -> None:
        self.selector = selectors.DefaultSelector()
        self.connections: dict[int, OriginConnection] = {}
        self.tagged: dict[str, list[OriginConnection]] = {}
        self.accepted = 0
        self.accepting = True
        self.pause_new = False
        self._closed: collections.deque[int] = collections.deque()
        self.listeners = [(listener, self._listen(listener)) for listener in config["listeners"]]
        for listener, sock in self.listeners:
            self.selector.register(sock, selectors.EVENT_READ, (self._accept, listener))
        self.control_path = RUN / f"origin-{config['name']}.sock"
        self._control = self._open_control()
        self.selector.register(self._control, selectors.EVENT_READ, (self._accept_control, None))

    @staticmethod
    def _listen(listener: Json) -> socket.socket:
        where = f"{listener['address']} port {listener['port']}"
        try:
            protocol = listener.get("protocol", "mptcp")
            return open_listener(
                listener["address"], listener["port"], protocol, listener.get("device"), 1024
            )
        except OSError as error:
            raise AgentError("listen", f"cannot listen on {where}: {error.strerror}", error.errno) from None

    def _open_control(self) -> socket.socket:
        make_run_folder()
        with contextlib.suppress(FileNotFoundError):
            self.control_path.unlink()
        control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)
        try:
            control.bind(str(self.control_path))
        finally:
            os.umask(mask)
        control.listen(16)
        control.setblocking(False)
        return control

    def run(self) -> None:
        """Serve until the process is told to end."""
        notify("READY=1")
        while True:
            for key, mask in self.selector.select():
                action, context = key.data
                action(key.fileobj, context, mask)

    def _accept(self, listening: socket.socket, listener: Json, _: int) -> None:
        try:
            sock, _peer = listening.accept()
        except OSError:  # gone again before it was accepted, or out of descriptors: the next round tells
            return
        self.accepted += 1
        connection = OriginConnection(self.accepted, listener, sock, self.pause_new)
        self.connections[connection.number] = connection
        self._rearm(connection)

    def _serve(self, _: socket.socket, connection: OriginConnection, mask: int) -> None:
        sock = connection.sock
        descriptor = sock.fileno()
        known = connection.tag
        connection.handle(mask)
        if connection.tag != known:
            self.tagged.setdefault(connection.tag, []).append(connection)
        if connection.open:
            self._rearm(connection)
            return
        self._retire(connection, descriptor)

    def _retire(self, connection: OriginConnection, descriptor: int) -> None:
        """Wait for a closed connection no more, and forget what is too old."""
        if connection.events:
            self.selector.unregister(descriptor)
        self._closed.append(connection.number)
        if len(self._closed) > TIMELINES_KEPT:
            self.connections[self._closed[-TIMELINES_KEPT - 1]].forget_timeline()
        if len(self._closed) > RECORDS_KEPT:
            self._forget(self.connections.pop(self._closed.popleft()))

    def _forget(self, connection: OriginConnection) -> None:
        same_tag = self.tagged.get(connection.tag, [])
        if connection in same_tag:
            same_tag.remove(connection)
            if not same_tag:
                del self.tagged[connection.tag]

    def _rearm(self, connection: OriginConnection) -> None:
        wanted = connection.wanted()
        if wanted == connection.events:
            return
        data = (self._serve, connection)
        if not connection.events:
            self.selector.register(connection.sock, wanted, data)
        elif not wanted:
            self.selector.unregister(connection.sock)
        else:
            self.selector.modify(connection.sock, wanted, data)
        connection.events = wanted

    def _accept_control(self, listening: socket.socket, _context: None, _mask: int) -> None:
        client, _ = listening.accept()
        self.selector.register(client, selectors.EVENT_READ, (self._serve_control, bytearray()))

    def _serve_control(self, client: socket.socket, buffer: bytearray, _mask: int) -> None:
        data = client.recv(65536)
        buffer += data
        if data and b"\n" not in buffer:
            return
        self.selector.unregister(client)
        with client, contextlib.suppress(OSError):
            client.settimeout(2)  # the peer is the probe on this host, reading
            client.sendall(json.dumps(self._answer(bytes(buffer))).encode() + b"\n")

    def _answer(self, line: bytes) -> Json:
        try:
            request = json.loads(line)
            action = getattr(self, "ask_" + str(request.pop("ask")))
            return {"ok": True, "result": action(**request)}
        except (AgentError, AttributeError, KeyError, OSError, TypeError, ValueError) as error:
            return {"ok": False, "error": describe_error(error)}

    def _matching(self, number: int | None, tag: str | None) -> list[OriginConnection]:
        found = self.connections.values() if tag is None else self.tagged.get(tag, [])
        return [connection for connection in found if number in (None, connection.number)]

    def ask_connections(self, since: int = 0, tag: str | None = None, timeline: bool = True) -> list[Json]:
        """Records of the connections after number `since`, by tag if given."""
        return [c.document(timeline) for c in self._matching(None, tag) if c.number > since]

    def ask_facts(self, number: int) -> Json:
        """Live socket facts of a connection; those at its end when it has ended."""
        connection = self.connections[number]
        return socket_facts(connection.sock) if connection.open else dict(connection.record["facts"])

    def ask_counts(self) -> Json:
        """How many were accepted, how many are open."""
        open_now = sum(connection.open for connection in self.connections.values())
        return {"accepted": self.accepted, "open": open_now, "accepting": self.accepting}

    def ask_reading(self, paused: bool, number: int | None = None, tag: str | None = None) -> int:
        """Stop or go on reading: one connection, a tag, or all present and future; returns how many."""
        if number is None and tag is None:
            self.pause_new = paused
        chosen = [connection for connection in self._matching(number, tag) if connection.open]
        for connection in chosen:
            connection.paused = paused
            self._rearm(connection)
        return len(chosen)

    def ask_reset(self, tag: str) -> int:
        """Close a tag's connections with RST; returns how many."""
        chosen = [connection for connection in self._matching(None, tag) if connection.open]
        for connection in chosen:
            descriptor = connection.sock.fileno()
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close("reset", None)
            self._retire(connection, descriptor)
        return len(chosen)

    def ask_accepting(self, paused: bool) -> bool:
        """Stop or go on accepting; the kernel still completes handshakes up to the backlog."""
        if paused == self.accepting:
            for listener, sock in self.listeners:
                if paused:
                    self.selector.unregister(sock)
                else:
                    self.selector.register(sock, selectors.EVENT_READ, (self._accept, listener))
            self.accepting = not paused
        return self.accepting


def notify(message: str) -> None:
    """sd_notify(3): tell systemd, if it is who started this."""
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(message.encode(), "\0" + path[1:] if path.startswith("@") else path)


def make_run_folder() -> None:
    """/run/mptcp-lab, for root alone."""
    RUN.mkdir(mode=0o700, parents=True, exist_ok=True)


def origin_main(config_file: Path) -> int:
    """Run the origin service by its configuration file (JSON: name, listeners)."""
    try:
        config = json.loads(config_file.read_text())
        origin = Origin(config)
    except (OSError, KeyError, TypeError, ValueError, AgentError) as error:
        example = (
            '{"name": "server1", "listeners": [{"address": "198.18.1.5", "port": 7000, "protocol": "mptcp"}]}'
        )
        sys.stderr.write(f"origin: {config_file}: {type(error).__name__}: {error}\nexample: {example}\n")
        return 2

    def stop(*_: object) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, stop)
    try:
        origin.run()
    finally:
        origin.control_path.unlink()
    return 0


def ask_origin(name: str, request: Json) -> Any:
    """Ask an origin on this host; see Origin.ask_*."""
    path = RUN / f"origin-{name}.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(5)
        try:
            sock.connect(str(path))
        except OSError as error:
            message = f"no origin service answers on {path}: {error.strerror}; look at the service's journal"
            raise AgentError("origin", message, error.errno) from None
        sock.sendall(json.dumps(request).encode() + b"\n")
        with sock.makefile("rb") as lines:
            answer = json.loads(lines.readline() or b'{"ok": false, "error": {"message": "it closed"}}')
    if not answer["ok"]:
        raise AgentError("origin", answer["error"]["message"], answer["error"].get("errno"))
    return answer["result"]


# ---------------------------------------------------------------------------------------------------------
# 13 The probe: calls in, answers and events out
# ---------------------------------------------------------------------------------------------------------

HEARTBEAT = 1.0
TRANSFERS_KEPT = 5000  # results that can still be asked for


class Probe:
    """Runs the operations (methods op_*) that come over a channel of JSON lines."""

    def __init__(self, source: Any, sink: Any) -> None:
        self._source = source
        self._sink = sink
        self._write_lock = threading.Lock()
        self._ended = threading.Event()
        self.open = Registry()
        self.transfers = Registry()
        self._recent: collections.deque[str] = collections.deque()
        self.commands = Commands()
        self._capabilities: Json | None = None

    def run(self) -> None:
        """Serve until the channel ends, then leave nothing behind."""
        threading.Thread(target=self._beat, daemon=True).start()
        try:
            for line in self._source:
                request = json.loads(line)
                threading.Thread(target=self._serve, args=(request,), daemon=True).start()
        finally:
            self._ended.set()
            self.commands.close()
            for item in self.open.drain():
                with contextlib.suppress(OSError, AgentError):
                    item.close()

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT):
            self.say({"event": "heartbeat", "at": time.monotonic()})

    def say(self, message: Json) -> None:
        """Send one line; a channel that is gone is noticed by run()."""
        line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        with self._write_lock, contextlib.suppress(BrokenPipeError, ValueError):
            self._sink.write(line)
            self._sink.flush()

    def _serve(self, request: Json) -> None:
        answer: Json = {"id": request["id"], "ok": True}
        try:
            operation = getattr(self, "op_" + request["op"], None)
            if operation is None:
                raise AgentError("unknown-op", f"this probe has no operation {request['op']!r}")
            answer["result"] = operation(**request.get("args", {}))
        except Exception as error:
            answer.update(ok=False, error=describe_error(error))
        self.say(answer)

    # --- the host

    def op_hello(self) -> Json:
        """Who this is, what it runs, and which faults an earlier probe left."""
        return {
            "host": platform.node(),
            "kernel": platform.release(),
            "python": platform.python_version(),
            "pid": os.getpid(),
            "uid": os.getuid(),
            "systemd": Path("/run/systemd/system").is_dir(),
            "faults": recover_faults(),
            "clock": read_clock(),
        }

    def op_capabilities(self) -> Json:
        """See read_capabilities; tried once per probe."""
        if self._capabilities is None:
            self._capabilities = read_capabilities()
        return self._capabilities

    def op_clock(self) -> Json:
        """See read_clock."""
        return read_clock()

    def op_ping(self, payload: Any = None) -> Any:
        """What was sent."""
        return payload

    def op_counters(self) -> Json:
        """See read_counters."""
        return read_counters()

    def op_nics(self) -> Json:
        """See read_nics."""
        return read_nics()

    def op_endpoints(self) -> list[Json]:
        """MPTCP endpoints."""
        with PathManager() as manager:
            return manager.endpoints()

    def op_limits(self) -> Json:
        """MPTCP limits."""
        with PathManager() as manager:
            return manager.limits()

    def op_steer(self, command: str, token: int, **about: Any) -> None:
        """See PathManager.steer."""
        with PathManager() as manager:
            manager.steer(command, token, **about)

    def op_sysctls(self) -> Json:
        """See read_sysctls."""
        return read_sysctls()

    def op_read(self, what: str) -> Any:
        """One of IP_READINGS, as the tool prints it."""
        if what not in IP_READINGS:
            raise ValueError(f"{what!r}: use one of {', '.join(IP_READINGS)}")
        return read_tool(what)

    def op_network_state(self) -> Json:
        """See network_state."""
        return network_state()

    def op_run(self, argv: list[str], timeout: float = 10.0, stdin: str = "") -> Json:
        """Run a command."""
        return self.commands.run(argv, timeout, stdin)

    # --- sockets

    def op_listen(
        self,
        address: str,
        port: int,
        protocol: str = "mptcp",
        device: str | None = None,
        hold: bool = False,
        backlog: int = 1024,
    ) -> Json:
        """Listen; connections are accepted at once unless `hold`."""
        sock = open_listener(address, port, protocol, device, backlog)
        return {
            "listener": self.open.add("listener", Listener(sock, hold)),
            "local": socket_name(sock.getsockname),
        }

    def op_release(self, listener: str) -> None:
        """Begin to accept on a listener that holds."""
        self.open.get(listener).release()

    def op_accept(self, listener: str, timeout: float = 5.0) -> Json:
        """The next accepted connection."""
        stream, peer, when = self.open.get(listener).take(timeout)
        return {
            "stream": self.open.add("stream", stream),
            "peer": [plain_address(peer[0]), peer[1]],
            "local": socket_name(stream.sock.getsockname),
            "at": when,
        }

    def op_accepted(self, listener: str) -> int:
        """How many connections a listener has accepted."""
        return int(self.open.get(listener).accepted)

    def op_connect(
        self,
        address: str,
        port: int,
        protocol: str = "mptcp",
        source: str | None = None,
        device: str | None = None,
        timeout: float = 5.0,
    ) -> Json:
        """Connect; see connect."""
        stream, seconds = connect(address, port, protocol, source, device, timeout)
        return {
            "stream": self.open.add("stream", stream),
            "local": socket_name(stream.sock.getsockname),
            "peer": socket_name(stream.sock.getpeername),
            "seconds": seconds,
            "at": time.monotonic(),
        }

    def op_many(
        self,
        address: str,
        port: int,
        message: str,
        expect: int,
        count: int,
        concurrent: int = 1,
        hold: bool = False,
        protocol: str = "mptcp",
        source: str | None = None,
        timeout: float = 30.0,
    ) -> Json:
        """Many short connections; `message` in base64. See Many."""
        batch = Many(base64.b64decode(message), expect, concurrent, hold)
        return batch.run(count, timeout, (address, port), protocol, source)

    def op_facts(self, stream: str) -> Json:
        """See socket_facts."""
        return socket_facts(self.open.get(stream).sock)

    def op_setsockopt(self, stream: str, level: int, option: int, value: int | str) -> None:
        """Set an option of a stream to an int, or to bytes given in base64."""
        data = base64.b64decode(value) if isinstance(value, str) else value
        self.open.get(stream).sock.setsockopt(level, option, data)

    def op_shutdown(self, stream: str) -> None:
        """End the sending direction."""
        self.open.get(stream).sock.shutdown(socket.SHUT_WR)

    def op_close(self, item: str, reset: bool = False) -> None:
        """Close anything that was opened; `reset` is for streams."""
        opened = self.open.pop(item)
        if isinstance(opened, Stream):
            opened.close(reset)
        else:
            opened.close()

    # --- transfers

    def op_send(self, stream: str, **options: Any) -> str:
        """Begin to send; see start_send."""
        return self._add_transfer(start_send(self.open.get(stream), **options))

    def op_receive(self, stream: str, nbytes: int | None = None) -> str:
        """Begin to receive; see start_receive."""
        return self._add_transfer(start_receive(self.open.get(stream), nbytes))

    def op_echo(self, stream: str) -> str:
        """Begin to echo; see start_echo."""
        return self._add_transfer(start_echo(self.open.get(stream)))

    def _add_transfer(self, transfer: Transfer) -> str:
        name = self.transfers.add("transfer", transfer)
        self._recent.append(name)
        if len(self._recent) > TRANSFERS_KEPT and self.transfers.get(self._recent[0]).done.is_set():
            self.transfers.pop(self._recent.popleft())
        return name

    def op_progress(self, transfer: str) -> Json:
        """How far a transfer is."""
        return dict(self.transfers.get(transfer).document())

    def op_finish(self, transfer: str) -> None:
        """Let a send end after the chunk it is at."""
        self.transfers.get(transfer).finishing = True

    def op_wait(self, transfer: str, timeout: float) -> Json:
        """The result of a transfer when it has ended; `done` is false when the time was over first."""
        running = self.transfers.get(transfer)
        return dict(running.result() if running.done.wait(timeout) else running.document())

    # --- events and captures

    def op_watch(self) -> str:
        """Report netlink events from now on."""
        name = ""
        ready = threading.Event()

        def report(event: Json) -> None:
            ready.wait()
            self.say({**event, "watch": name})

        name = self.open.add("watch", EventWatch(report))
        ready.set()
        return name

    def op_capture(self, devices: list[str], snaplen: int = 160) -> str:
        """Capture on these NICs from now on."""
        return self.open.add("capture", Capture(devices, snaplen))

    def op_capture_stop(self, capture: str) -> Json:
        """End a capture; the file is then fetched in pieces."""
        return dict(self.open.get(capture).stop())

    def op_capture_fetch(self, capture: str, offset: int, length: int) -> str:
        """A piece of the pcapng: base64 of zlib."""
        piece = self.open.get(capture).data[offset : offset + length]
        return base64.b64encode(zlib.compress(piece, 3)).decode()

    def op_relay(self, address: str, port: int) -> str:
        """Relay raw packets for this address and port: those that come are reported."""
        name = ""
        ready = threading.Event()

        def report(event: Json) -> None:
            ready.wait()
            self.say({**event, "relay": name})

        name = self.open.add("relay", Relay(address, port, report))
        ready.set()
        return name

    def op_relay_send(self, relay: str, packet: str) -> None:
        """Send a raw packet (base64)."""
        self.open.get(relay).send(base64.b64decode(packet))

    # --- the origin service

    def op_origin(self, name: str, request: Json) -> Any:
        """Ask an origin service on this host; see Origin.ask_*."""
        return ask_origin(name, request)

    # --- faults and the lease

    def op_fault(self, kind: str, ttl: float, params: Json) -> str:
        """Apply a fault for at most `ttl` seconds; see PLANS for the kinds and their parameters."""
        return self.open.add("fault", AppliedFault(apply_fault(kind, ttl, params)))

    def op_lift(self, fault: str) -> bool:
        """Lift a fault; false when its time was over before."""
        lifted = bool(self.open.get(fault).close())
        self.open.pop(fault)
        return lifted

    def op_faults(self) -> list[Json]:
        """Every fault on record: what went wrong when lifting it, and whether its probe is gone."""
        return [{**each, "orphan": not Path(f"/proc/{each['owner']}").exists()} for each in read_faults()]

    def op_lease_take(self, owner: str, run: str, ttl: float) -> Json:
        """See take_lease."""
        return take_lease(owner, run, ttl)

    def op_lease_refresh(self, run: str, ttl: float) -> None:
        """See refresh_lease."""
        refresh_lease(run, ttl)

    def op_lease_release(self, run: str) -> bool:
        """See release_lease."""
        return release_lease(run)


def probe_main(management: str) -> int:
    """Serve the controller on standard input and output until it goes.

    `management` is SSH_CONNECTION: the controller's address and port, then ours ("UNKNOWN" on a Unix socket).
    """
    MANAGEMENT.extend(plain_address(word) for word in management.split()[2:3])
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library might print must not end up between the lines
    Probe(source, sink).run()
    # daemon threads may still hold sockets that are being closed; the kernel closes the rest
    os._exit(0)


# ---------------------------------------------------------------------------------------------------------
# 14 Command line
# ---------------------------------------------------------------------------------------------------------


def main(argv: list[str]) -> int:
    """Run what the first word says."""
    parser = argparse.ArgumentParser(prog="agent.py", description="mptcp-lab's probe and origin service")
    commands = parser.add_subparsers(dest="command", required=True)
    probe = commands.add_parser("probe", help="serve a controller on standard input and output")
    probe.add_argument("--management", default="", help="SSH_CONNECTION of the session")
    origin = commands.add_parser("origin", help="run the origin service")
    origin.add_argument("--config", type=Path, required=True, help="JSON file: name, listeners")
    keeper = commands.add_parser("keeper", help="lift faults when their time is over")
    keeper.add_argument("--detach", action="store_true", help="go on in the background")
    endpoint = commands.add_parser(
        "endpoint", help="add an MPTCP endpoint, with flags that ip(8) may not know"
    )
    endpoint.add_argument("address")
    endpoint.add_argument("--id", type=int, required=True)
    endpoint.add_argument("--device", required=True)
    endpoint.add_argument("flags", nargs="+", choices=[*ENDPOINT_FLAGS])
    chosen = parser.parse_args(argv)
    if chosen.command == "keeper":
        return keeper_main(chosen.detach)
    if chosen.command == "endpoint":
        return endpoint_main(
            {"address": chosen.address, "id": chosen.id, "device": chosen.device, "flags": chosen.flags}
        )
    threading.stack_size(512 * 1024)  # calls are short; the default of 8 MiB each is waste
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # a thousand connections and more
    if chosen.command == "origin":
        return origin_main(chosen.config)
    return probe_main(chosen.management)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
