"""Test data in which every byte is known in advance, and the record of when it was transferred."""

from __future__ import annotations

import functools
import hashlib
import time

from .basics import Json

BLOCK = 65536
ZEROS = bytes(BLOCK)


@functools.lru_cache(maxsize=8)  # short answers share a seed; to compute a block costs as much as to send it
def random_block(seed: int | str, number: int) -> bytes:
    """Return block `number` of the "random" pattern (`BLOCK` bytes)."""
    return hashlib.shake_128(f"{seed}:{number}".encode()).digest(BLOCK)


class Pattern:
    """Deterministic data: byte p depends on the seed and on p, so that lost, duplicate or moved data shows.

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
        """Return `length` bytes from `position`."""
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
    """A record of how many bytes had been transferred at which time, in bounded memory.

    The largest gaps are exact, the points are thinned out: `points` are (monotonic seconds, total bytes), and
    when there are more than `POINTS`, every second one is dropped.
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
        """Record that `nbytes` were transferred just now."""
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
        """Return the timeline as a JSON object; its points always include the last one."""
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
