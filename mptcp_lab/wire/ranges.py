"""Sets of sequence numbers, stored as ranges; memory stays small while added ranges touch each other."""

from __future__ import annotations

from bisect import bisect_left, bisect_right


class RangeSet:
    """A set of integers as half-open ranges [start, end), sorted and merged, so that no two touch."""

    __slots__ = ("_ends", "_starts")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def __iter__(self) -> zip[tuple[int, int]]:
        return zip(self._starts, self._ends, strict=True)

    def __len__(self) -> int:
        return len(self._starts)

    def add(self, start: int, end: int) -> int:
        """Add [start, end) and return how many of its numbers were in the set already."""
        if end <= start:
            return 0
        starts, ends = self._starts, self._ends
        first = bisect_left(ends, start)
        last = bisect_right(starts, end)
        if first == last:
            starts.insert(first, start)
            ends.insert(first, end)
            return 0
        overlap = sum(max(0, min(end, ends[at]) - max(start, starts[at])) for at in range(first, last))
        starts[first:last] = [min(start, starts[first])]
        ends[first:last] = [max(end, ends[last - 1])]
        return overlap

    def covers(self, start: int, end: int) -> bool:
        """Return whether the set contains all of [start, end)."""
        at = bisect_right(self._starts, start) - 1
        return at >= 0 and self._ends[at] >= end

    def missing_parts(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return the parts of [start, end) that are not in the set, in order."""
        at = bisect_right(self._ends, start)
        parts = []
        while start < end and at < len(self._starts) and self._starts[at] < end:
            if start < self._starts[at]:
                parts.append((start, self._starts[at]))
            start = self._ends[at]
            at += 1
        return [*parts, (start, end)] if start < end else parts

    def overlaps(self, start: int, end: int) -> bool:
        """Return whether the set contains any number of [start, end)."""
        at = bisect_left(self._starts, end) - 1
        return at >= 0 and self._ends[at] > start
