"""Read TCP segments from captures, one at a time: pcap and pcapng, from files and pipes, also gzipped.

Module `records` reads the records. This module turns their frames into segments and counts the packets that
it could not read.
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
    """A capture yields no TCP segment; the message names the file, the reason and the next command."""


class CaptureFile:
    """The TCP segments of a capture, in order; iterate once. The path `-` means standard input.

    The counters grow during iteration: `packets` counts all packets read, `segments` the TCP segments,
    `cut_headers` the segments whose options the snap length cut off, and `unread` the packets that were not
    read, by reason: link types, tunnels, fragments, TCP that is cut too short. `is_cut` is true if the file
    ends within a packet. `damage` states where and why reading stopped before the end of the file.

    Raises:
        CaptureError: on opening, the file cannot be read, is empty or is not a capture; at the end of the
            iteration, the capture contains no TCP.
    """

    def __init__(self, path: str | Path) -> None:
        self.name = "standard input" if str(path) == STDIN else str(path)
        self.path = Path(path)
        self.packets = 0
        self.segments = 0
        self.cut_headers = 0
        self.unread: Counter[Unread] = Counter()
        try:
            self._file: BufferedReader = _standard_input() if str(path) == STDIN else _open_file(self.path)
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
    def is_cut(self) -> bool:
        """Return whether the file ends within a packet; valid after the iteration."""
        return self._records.cut

    @property
    def damage(self) -> str:
        """Return where and why reading stopped before the end of the file, or an empty string."""
        return self._records.damage

    @property
    def unattributed_count(self) -> int:
        """Return how many TCP packets were cut before their sequence numbers and belong to no connection."""
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
        """Return the error message for a capture without any TCP segment."""
        found = [f"{packets(count)} {what.text}" for what, count in self.unread.most_common()]
        found += [self.damage] * bool(self.damage)
        if any(what.is_tunnel for what in self.unread):
            again = "what is inside a tunnel is not read here: capture at an end of the tunnel"
        elif self.unattributed_count:
            again = "capture it again with a snap length of 128 or more"
        else:
            again = _AGAIN
        why = f": {', '.join(found)}" if found else ""
        return f"{self.name}: no TCP header in its {packets(self.packets)}{why}; {again}"

    def _close(self) -> None:
        self._file.close()


def _standard_input() -> BufferedReader:
    """Return standard input as a binary stream; raise OSError if this process has none."""
    if sys.stdin is None:
        raise OSError(0, "standard input is closed")
    return BufferedReader(FileIO(sys.stdin.fileno(), closefd=False))


def _open_file(path: Path) -> BufferedReader:
    """Open a file or a pipe; raise OSError for a directory, a socket or a block device."""
    file = path.open("rb")
    if stat.S_ISBLK(path.stat().st_mode):
        file.close()
        raise OSError(0, "is a block device")
    return file


def packets(count: int) -> str:
    """Return a count with its noun, such as `1 packet` or `2 packets`."""
    return f"{count} packet{'s' * (count != 1)}"
