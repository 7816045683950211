"""Read the records of pcap and pcapng captures from files, pipes and gzip streams, in bounded memory.

The input is read forwards only, without seeking.

Formats: draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

#: A record with a longer packet or block is damaged. libpcap's limit for a packet is 2**18, and 2**27 on
#: D-Bus only.
MOST_OCTETS = 1 << 24

_CHUNK = 1 << 16
_GZIP, _GZIP_MAGIC = 31, b"\x1f\x8b"
_NANOSECOND = 1_000_000_000
_SECTION, _INTERFACE, _OLD_PACKET, _SIMPLE_PACKET, _PACKET = 0x0A0D0D0A, 1, 2, 3, 6
_BYTE_ORDER = 0x1A2B3C4D
_RESOLUTION, _OFFSET = 9, 14
_COMPRESSED = {
    b"\x28\xb5\x2f\xfd": ("zstd", "unzstd"),
    b"\x04\x22\x4d\x18": ("lz4", "unlz4"),
    b"\xfd7zX": ("xz", "unxz"),
    b"BZh": ("bzip2", "bunzip2"),
    b"PK\x03\x04": ("zip", "unzip"),
}

#: Link type, frame as captured, its length on the wire, nanoseconds since the epoch.
Record = tuple[int, bytes, int, int]


class RecordsError(Exception):
    """The input is not a capture; the message states why, as the predicate after a file name."""


class Readable(Protocol):
    """A readable stream of octets."""

    def read1(self, size: int, /) -> bytes:
        """Return octets as soon as some are available, at most `size`; empty at the end."""


class Source:
    """The octets of a stream, decompressed if it is gzip.

    `at` counts the octets taken. `flaw` describes damage of the compressed data; it is empty without damage.
    """

    def __init__(self, file: Readable) -> None:
        self.at = 0
        self.flaw = ""
        self._buffer = b""
        self._from = 0
        self._stream: Readable = file
        self.ended = False
        head = self._peek(4)
        if head.startswith(_GZIP_MAGIC):
            self._stream = _Gunzip(self._buffer, file)
            self._buffer, self._from, self.ended = b"", 0, False
            head = self._peek(4)
        self.head = head

    def _peek(self, size: int) -> bytes:
        self._fill(size)
        return self._buffer[self._from : self._from + size]

    def _fill(self, size: int) -> bool:
        """Read until the buffer has `size` octets; return False if the stream ends before."""
        while len(self._buffer) - self._from < size and not self.ended:
            try:
                more = self._stream.read1(max(_CHUNK, size - len(self._buffer) + self._from))
            except EOFError:
                more, self.flaw = b"", "the compressed data ends early"
            except zlib.error:
                more, self.flaw = b"", "the compressed data is damaged"
            if more:
                self._buffer, self._from = self._buffer[self._from :] + more, 0
            else:
                self.ended = True
        return len(self._buffer) - self._from >= size

    def take(self, size: int) -> bytes | None:
        """Return the next `size` octets, or None if the stream ends before."""
        start = self._from
        end = start + size
        if end > len(self._buffer):
            if not self._fill(size):
                return None
            start = self._from
            end = start + size
        self._from = end
        self.at += size
        return self._buffer[start:end]

    @property
    def rest(self) -> int:
        """Return how many octets are buffered: at the end of the stream, those of an incomplete record."""
        return len(self._buffer) - self._from


class _Gunzip:
    """A decompressed gzip stream of one or more members, readable up to the first damage."""

    def __init__(self, start: bytes, file: Readable) -> None:
        self._file = file
        self._input = start
        self._member = zlib.decompressobj(wbits=_GZIP)

    def read1(self, size: int, /) -> bytes:
        """Return some octets, none at the end; raise EOFError if the stream ends within a member."""
        while True:
            data, self._input = self._input or self._file.read1(_CHUNK), b""
            if self._member.eof:
                if not data.startswith(_GZIP_MAGIC):  # the end of the stream, or padding
                    return b""
                self._member = zlib.decompressobj(wbits=_GZIP)
            out = self._member.decompress(data, size)
            if self._member.eof:
                self._input = self._member.unused_data
            elif data or out:
                self._input = self._member.unconsumed_tail
            else:
                raise EOFError
            if out:
                return out


@dataclass(slots=True)
class _Interface:
    link_type: int
    snap_length: int
    ticks: int = 1_000_000  # per second
    offset_ns: int = 0


@dataclass(slots=True)
class _Section:
    order: str = "<"
    interfaces: list[_Interface] = field(default_factory=list)
    last_ns: int = 0


class Records:
    """The packets of a capture; iterate once.

    `cut` is true if the stream ends within a record. `damage` describes the place where a record is invalid
    and reading stopped; it is empty without damage.

    Raises:
        RecordsError: on opening, the stream is empty, or is not a capture that this module can read.
    """

    def __init__(self, file: Readable) -> None:
        self.cut = False
        self.damage = ""
        self._source = source = Source(file)
        magic = source.head
        self._read = self._pcapng
        if not magic:
            raise RecordsError(source.flaw or "is empty")
        for start, (name, tool) in _COMPRESSED.items():
            if magic.startswith(start):
                raise RecordsError(
                    f"is compressed with {name}, which is not read here, run {tool} on it first"
                )
        if magic == b"\x0a\x0d\x0d\x0a":
            self._section = _Section()
            source.take(4)
            if not self._start_section() and not self._section.interfaces:
                raise RecordsError(f"is no pcapng capture: {self.damage or 'it ends within its first block'}")
            return
        formats = {0xA1B2C3D4: (1000, 16), 0xA1B23C4D: (1, 16), 0xA1B2CD34: (1000, 24)}
        for order in "<>":
            if len(magic) == 4 and (found := formats.get(struct.unpack(order + "I", magic)[0])):
                head = source.take(24)
                if head is None:
                    raise RecordsError("is no pcap capture: it ends within its header")
                self._order, (self._unit, self._head) = order, found
                # The upper bits of this field hold the length of the frame check sequence.
                self._link_type = struct.unpack(order + "I", head[20:])[0] & 0x03FFFFFF
                self._read = self._pcap
                return
        raise RecordsError("is no pcap or pcapng capture")

    def __iter__(self) -> Iterator[Record]:
        yield from self._read()
        self.damage = self.damage or (
            self._source.flaw and f"{self._source.flaw} after {self._source.at} octets"
        )

    def _pcap(self) -> Iterator[Record]:
        take, unit, link_type, size = self._source.take, self._unit, self._link_type, self._head
        unpack = struct.Struct(self._order + "IIII").unpack_from
        while head := take(size):
            seconds, fraction, captured, wire_length = unpack(head)
            if captured > MOST_OCTETS:
                self._note_damage(f"a packet of {captured} octets", size)
                return
            frame = take(captured)
            if frame is None:
                self.cut = True
                return
            yield link_type, frame, wire_length, seconds * _NANOSECOND + fraction * unit
        self.cut = bool(self._source.rest)

    def _note_damage(self, what: str, back: int) -> None:
        self.damage = f"damaged at octet {self._source.at - back}: {what}"

    def _pcapng(self) -> Iterator[Record]:
        source = self._source
        while head := source.take(4):
            section = self._section
            kind = struct.unpack(section.order + "I", head)[0]
            if kind == _SECTION:
                if not self._start_section():
                    return
                continue
            body = self._body(kind)
            if body is None:
                return
            if kind == _INTERFACE:
                section.interfaces.append(_interface(section.order, body))
            elif kind in (_PACKET, _OLD_PACKET, _SIMPLE_PACKET):
                record = self._packet(kind, body)
                if record is None:
                    return
                yield record
        self.cut = bool(source.rest)

    def _start_section(self) -> bool:
        """Read a section header after its block type; return whether it is complete and valid."""
        source = self._source
        head = source.take(8)
        if head is None:
            self.cut = True
            return False
        for order in "<>":
            length, magic = struct.unpack(order + "II", head)
            if magic != _BYTE_ORDER:
                continue
            if length % 4 or not 28 <= length <= MOST_OCTETS:
                self._note_damage(f"a section header of {length} octets", 12)
                return False
            if source.take(length - 12) is None:
                self.cut = True
                return False
            self._section = _Section(order, last_ns=self._section.last_ns)
            return True
        self._note_damage("a section header without byte order", 12)
        return False

    def _body(self, kind: int) -> bytes | None:
        """Return the content of a block after its type, or None if the block is cut or damaged."""
        source, order = self._source, self._section.order
        head = source.take(4)
        if head is None:
            self.cut = True
            return None
        length = struct.unpack(order + "I", head)[0]
        if length % 4 or not 12 <= length <= MOST_OCTETS:
            self._note_damage(f"a block of type {kind:#x} and {length} octets", 8)
            return None
        body = source.take(length - 8)
        if body is None:
            self.cut = True
            return None
        if body[-4:] != head:
            self._note_damage(f"a block of type {kind:#x} whose lengths differ", length)
            return None
        return body[:-4]

    def _packet(self, kind: int, body: bytes) -> Record | None:
        section, order = self._section, self._section.order
        number, ticks, start = 0, None, 20
        if kind == _SIMPLE_PACKET:
            start = 4
            wire_length = struct.unpack_from(order + "I", body)[0] if len(body) >= 4 else 0
            captured = min(wire_length, len(body) - 4)
        elif len(body) < 20:
            captured = wire_length = -1
        else:
            number, high, low, captured, wire_length = struct.unpack_from(order + "IIIII", body)
            ticks = high << 32 | low
            if kind == _OLD_PACKET:
                number = struct.unpack_from(order + "H", body)[0]
        if not 0 <= captured <= len(body) - start:
            self._note_damage(f"a packet longer than its block of {len(body) + 12} octets", len(body) + 12)
            return None
        if number >= len(section.interfaces):
            self._note_damage(f"a packet of interface {number}, which is not described", len(body) + 12)
            return None
        interface = section.interfaces[number]
        if kind == _SIMPLE_PACKET and interface.snap_length:
            captured = min(captured, interface.snap_length)
        if ticks is not None:
            section.last_ns = ticks * _NANOSECOND // interface.ticks + interface.offset_ns
        return interface.link_type, body[start : start + captured], wire_length, section.last_ns


def _interface(order: str, body: bytes) -> _Interface:
    if len(body) < 8:
        return _Interface(-1, 0)
    link_type, _, snap_length = struct.unpack_from(order + "HHI", body)
    interface = _Interface(link_type, snap_length)
    at = 8
    while at + 4 <= len(body):
        code, size = struct.unpack_from(order + "HH", body, at)
        value = body[at + 4 : at + 4 + size]
        if code == 0 or len(value) < size:
            break
        if code == _RESOLUTION and size == 1:
            exponent = value[0] & 0x7F
            interface.ticks = 1 << exponent if value[0] & 0x80 else 10 ** min(exponent, 30)
        elif code == _OFFSET and size == 8:
            interface.offset_ns = struct.unpack(order + "q", value)[0] * _NANOSECOND
        at += 4 + size + -size % 4
    return interface
