"""Capture files to TCP segments, one at a time: pcap and pcapng (read by scapy), also ones cut short."""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from mptcp_lab.wire.packet import Segment, UnsupportedLink, parse_segment

_AGAIN = "capture it with: tcpdump -i any -s 128 -w FILE tcp"
_NANOSECOND = 1_000_000_000


class CaptureError(Exception):
    """A file that gives no TCP segment: which one, why, and what to do."""


class CaptureFile:
    """The TCP segments of a capture file, in order; iterate once.

    While iterating, `packets` counts what was read and `segments` what was TCP. `cut` says that the file ends
    within a packet. CaptureError, on opening: cannot be read, empty, no capture; at the end: no TCP in it.
    """

    def __init__(self, path: str | Path) -> None:
        # Only this module needs scapy: codec and keys stay free of dependencies.
        from scapy.error import Scapy_Exception
        from scapy.utils import RawPcapReader

        reader: Any = RawPcapReader  # its annotations allow paths only
        # A cut file is reported by `cut`; scapy would print a warning per oddity.
        logging.getLogger("scapy.runtime").setLevel(logging.ERROR)
        self.path = Path(path)
        self.packets = 0
        self.segments = 0
        self.cut = False
        try:
            self._file: BinaryIO = self.path.open("rb")
            size = os.fstat(self._file.fileno()).st_size
        except OSError as error:
            raise CaptureError(f"{path}: {error.strerror}; name a pcap or pcapng file") from None
        try:
            self._reader = reader(self._file)
        except Scapy_Exception:
            self._file.close()
            why = "is no pcap or pcapng capture" if size else "is empty"
            raise CaptureError(f"{path}: {why}; {_AGAIN}") from None
        self._is_ng = not hasattr(self._reader, "linktype")
        if self._is_ng:
            self.cut = _ng_is_cut(self.path, size)

    def __iter__(self) -> Iterator[Segment]:
        read = self._pcapng if self._is_ng else self._pcap
        try:
            for link_type, frame, wire_length, time_ns in read():
                self.packets += 1
                segment = parse_segment(link_type, frame, wire_length, self.packets, time_ns)
                if segment is not None:
                    self.segments += 1
                    yield segment
        except UnsupportedLink as error:
            raise CaptureError(f"{self.path}: {error} is not read here; {_AGAIN}") from None
        finally:
            self._file.close()
        if not self.segments:
            raise CaptureError(f"{self.path}: no TCP header in its {self.packets} packets; {_AGAIN}")

    def _pcap(self) -> Iterator[tuple[int, bytes, int, int]]:
        unit = 1 if self._reader.nano else 1000
        # The upper bits of the link type's field say how long the frame check sequence is.
        link_type = self._reader.linktype & 0x03FFFFFF
        end = 24
        for frame, meta in self._reader:
            end += 16 + meta.caplen
            yield link_type, frame, meta.wirelen, meta.sec * _NANOSECOND + meta.usec * unit
        self.cut = self._file.tell() != end

    def _pcapng(self) -> Iterator[tuple[int, bytes, int, int]]:
        for frame, meta in self._reader:
            ticks = ((meta.tshigh or 0) << 32) + (meta.tslow or 0)
            yield meta.linktype, frame, meta.wirelen, ticks * _NANOSECOND // meta.tsresol


def _ng_is_cut(path: Path, size: int) -> bool:
    """Whether the last octets are not the end of a block: a block ends with the length it began with."""
    with path.open("rb") as file:
        file.seek(max(0, size - 4))
        tail = file.read(4)
        for order in "<>":
            length = struct.unpack(order + "I", tail)[0]
            if 12 <= length <= size:
                file.seek(size - length + 4)
                if file.read(4) == tail:
                    return False
    return True
