"""Turn captures into TCP segments, one at a time: pcap and pcapng, from files and pipes, also gzipped.

The records are read in `records`; this module turns their frames into segments and counts what it could not
read.
"""

from __future__ import annotations

import stat
import sys
from collections import Counter
from collections.abc import Iterator
from io import BufferedReader, FileIO
from pathlib import Path

from mptcp_lab.wire.packet import Segment, Unread, read_frame
from mptcp_lab.wire.records import Records, RecordsError

STDIN = "-"
_AGAIN = "capture it with: tcpdump -i any -s 128 -w FILE tcp"


class CaptureError(Exception):
    """A file that gives no TCP segment: which one, why, and what to do."""


class CaptureFile:
    """The TCP segments of a capture, in order; iterate once. A path of `-` means standard input.

    While iterating, `packets` counts what was read, `segments` what was TCP, `cut_headers` the segments
    among them whose options the snap length cut off, and `unread` by name what was not read: link types,
    tunnels, fragments, TCP cut before its ports. `cut` is true for a file that ends within a packet,
    `damage` says where and why reading stopped before the end of the file. CaptureError, on opening: cannot
    be read, empty, no capture; at the end: no TCP in it.
    """

    def __init__(self, path: str | Path) -> None:
        self.name = "standard input" if str(path) == STDIN else str(path)
        self.path = Path(path)
        self.packets = 0
        self.segments = 0
        self.cut_headers = 0
        self.unread: Counter[Unread] = Counter()
        try:
            self._file: BufferedReader = _standard_input() if str(path) == STDIN else _opened(self.path)
        except OSError as error:
            raise CaptureError(f"{path}: {error.strerror}; name a pcap or pcapng file") from None
        try:
            self._records = Records(self._file)
        except RecordsError as error:
            self._close()
            raise CaptureError(f"{self.name}: {error}; {_AGAIN}") from None
        except OSError as error:
            self._close()
            raise CaptureError(f"{self.name}: {error.strerror or error}; {_AGAIN}") from None

    @property
    def cut(self) -> bool:
        """Whether the file ends within a packet. Known once it was read."""
        return self._records.cut

    @property
    def damage(self) -> str:
        """Where and why reading stopped before the end of the file; empty if it did not."""
        return self._records.damage

    @property
    def unattributed(self) -> int:
        """How many TCP packets were cut before their sequence numbers: their connections are unknown."""
        return sum(count for what, count in self.unread.items() if what.is_tcp)

    def __iter__(self) -> Iterator[Segment]:
        unread = self.unread
        try:
            for link_type, frame, wire_length, time_ns in self._records:
                self.packets += 1
                read = read_frame(link_type, frame, wire_length, self.packets, time_ns)
                if isinstance(read, Segment):
                    self.segments += 1
                    if read.options_cut:
                        self.cut_headers += 1
                    yield read
                elif read is not None:
                    unread[read] += 1
        finally:
            self._close()
        if not self.segments:
            raise CaptureError(self._no_tcp())

    def _no_tcp(self) -> str:
        """What to say of a capture without a single TCP segment."""
        found = [f"{packets(count)} {what.text}" for what, count in self.unread.most_common()]
        found += [self.damage] * bool(self.damage)
        if any(what.is_tunnel for what in self.unread):
            again = "what is inside a tunnel is not read here: capture at an end of the tunnel"
        elif self.unattributed:
            again = "capture it again with a snap length of 128 or more"
        else:
            again = _AGAIN
        why = f": {', '.join(found)}" if found else ""
        return f"{self.name}: no TCP header in its {packets(self.packets)}{why}; {again}"

    def _close(self) -> None:
        self._file.close()


def _standard_input() -> BufferedReader:
    """Return standard input. OSError if this process has none."""
    if sys.stdin is None:
        raise OSError(0, "standard input is closed")
    return BufferedReader(FileIO(sys.stdin.fileno(), closefd=False))


def _opened(path: Path) -> BufferedReader:
    """Open a file or a pipe. A directory or a socket gives OSError."""
    file = path.open("rb")
    if stat.S_ISBLK(path.stat().st_mode):
        file.close()
        raise OSError(0, "is a block device")
    return file


def packets(count: int) -> str:
    """Return a number of packets in words."""
    return f"{count} packet{'s' * (count != 1)}"
