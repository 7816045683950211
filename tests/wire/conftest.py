from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from mptcp_lab.wire import Analysis, CaptureFile, Segment, analyse

CAPTURES = Path(__file__).parent / "captures"


#: Captures of connections that ended in some way that a row has to know of.
ODD = Path(__file__).parent / "odd"


#: Captures that lack something or have it twice, and damaged ones: see test_derived.py and test_reading.py.
CASES = Path(__file__).parent / "cases"


def capture_paths() -> list[Path]:
    return sorted(each for each in CAPTURES.iterdir() if each.suffix in (".pcap", ".pcapng"))


@cache
def segments_of(path: Path) -> tuple[Segment, ...]:
    return tuple(CaptureFile(path))


@cache
def analysis_of(path: Path) -> Analysis:
    return analyse(segments_of(path))


def named(name: str) -> Path:
    return next(each for each in capture_paths() if each.stem == name)


@pytest.fixture(params=capture_paths(), ids=lambda path: path.stem)
def capture(request: pytest.FixtureRequest) -> Path:
    path = request.param
    assert isinstance(path, Path)
    return path
