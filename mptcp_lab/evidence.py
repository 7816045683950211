"""Store the evidence of a check: measured figures and files, also if the check passes."""

from __future__ import annotations

import contextlib
import gzip
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from mptcp_lab.errors import LabBroken
from mptcp_lab.results.result import Evidence, Figure

Series = Mapping[str, Sequence[tuple[float, float]]]


class EvidenceBox:
    """The evidence of one attempt at a check.

    Files are written to ``folder``; the result names them relative to ``root``. ``limits`` has the limits
    from the command line by the name of a figure.
    """

    def __init__(self, root: Path, folder: Path, limits: Mapping[str, float] | None = None) -> None:
        self._root = root
        self._folder = folder
        self._limits = limits or {}
        self._figures: list[Figure] = []
        self._files: list[Evidence] = []

    @property
    def figures(self) -> tuple[Figure, ...]:
        """Return the figures so far."""
        return tuple(self._figures)

    @property
    def files(self) -> tuple[Evidence, ...]:
        """Return the files so far."""
        return tuple(self._files)

    def figure(self, name: str, value: float, unit: str = "", limit: float | None = None) -> None:
        """Keep a measured figure; a check does not pass if a figure exceeds its ``limit``.

        A limit from the command line replaces ``limit``.

        Raises:
            ValueError: the value is not finite, or it is a truth value, which is no measured number.
        """
        if isinstance(value, bool) or not math.isfinite(value):
            raise ValueError(f"figure {name}: {value} was not measured")
        self._figures.append(Figure(name, value, unit, self._limits.get(name, limit)))

    def document(self, name: str, content: Any) -> None:
        """Keep a JSON document; dataclasses become objects, addresses become text."""
        self._add_json("document", name, content)

    def text(self, name: str, content: str) -> None:
        """Keep text, such as a part of a log."""
        self._add("text", name, ".txt", content.encode())

    def pcap(self, name: str, content: bytes) -> None:
        """Keep a pcapng capture (headers only) as a gzip file, which Wireshark and tshark open directly."""
        self._add("pcap", name, ".pcapng.gz", gzip.compress(content, compresslevel=3, mtime=0))

    def timeline(
        self,
        name: str,
        series: Series,
        marks: Iterable[tuple[float, str]] = (),
        *,
        gap: tuple[float, float] | None = None,
        unit: str = "bytes",
    ) -> None:
        """Keep figures over time, which the report draws.

        ``series`` maps a label (a path) to points of (seconds, value). ``marks`` are pairs of (seconds,
        label), such as the start and the end of a fault. ``gap`` is the interval (start, end) in seconds in
        which no data arrived. ``unit`` is the unit of the values.
        """
        content = {"unit": unit, "series": series, "marks": list(marks), "gap": gap}
        self._add_json("timeline", name, content)

    def subflows(self, rows: Iterable[Any], name: str = "subflows") -> None:
        """Keep a table of subflows; rows are mappings or dataclasses with the same keys."""
        self._add_json("subflows", name, list(rows))

    def packets(
        self, rows: Iterable[Mapping[str, Any]], name: str = "packets", *, zero_ns: int | None = None
    ) -> None:
        """Keep the packets that prove the claim: time, host, nic, from, to, flags, options of each.

        The time of a row is ``time_ns``, in nanoseconds since the epoch. It is kept as ``time``, in seconds
        since ``zero_ns`` (for tables that share their time zero) or since the first packet of the table.
        """
        table = list(rows)
        if zero_ns is None:
            zero_ns = min((row["time_ns"] for row in table), default=0)
        self._add_json("packets", name, [_with_seconds(row, zero_ns) for row in table])

    def _add_json(self, kind: str, name: str, content: Any) -> None:
        text = json.dumps(content, default=_plain, ensure_ascii=False, separators=(",", ":"))
        self._add(kind, name, ".json", text.encode())

    def _add(self, kind: str, name: str, suffix: str, content: bytes) -> None:
        stem = slug(name)
        path = self._folder / f"{stem}{suffix}"
        again = 2
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            while path.exists():
                path = self._folder / f"{stem}-{again}{suffix}"
                again += 1
            path.write_bytes(content)
        except OSError as error:
            with contextlib.suppress(OSError):
                path.unlink()  # a partial file is no evidence
            raise disk_full_error(self._folder, error) from None
        self._files.append(Evidence(name, kind, str(path.relative_to(self._root))))


def disk_full_error(folder: Path, error: OSError) -> LabBroken:
    """Return the error that ends a run because results or evidence cannot be written."""
    why = error.strerror or str(error)
    return LabBroken(f"results cannot be written: {why}", str(folder), "make room or choose --results DIR")


def slug(name: str) -> str:
    """Return a file name for a case or a piece of evidence."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-.") or "unnamed"


def _with_seconds(row: Mapping[str, Any], zero_ns: int) -> dict[str, Any]:
    """Return a row of a packet table with ``time`` in seconds since ``zero_ns`` instead of ``time_ns``."""
    rest = {key: value for key, value in row.items() if key != "time_ns"}
    return {"time": round((row["time_ns"] - zero_ns) / 1e9, 6), **rest}


def _plain(value: object) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=str)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, bytes):
        return value.hex()
    return str(value)
