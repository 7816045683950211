"""Coverage-guided fuzzing of codec, packet parser and analyser.

    PYTHONPATH=. python fuzz/fuzz_wire.py -max_total_time=600 -max_len=256 CORPUS fuzz/seeds

Needs atheris (`pip install atheris`), which the project's tests do not: they replay `fuzz/seeds`. Any
exception but MalformedOption is a bug, and so is an option that does not encode back to its octets.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports():
    from mptcp_lab.wire import (
        MalformedOption,
        Segment,
        analyse,
        decode_mptcp,
        decode_options,
        read_frame,
    )

LINK_TYPES = (0, 1, 101, 108, 113, 228, 229, 276, 12, 147)


def one_input(data: bytes) -> None:
    """The same octets as one option, as a header's options, and as a frame of every link type."""
    for decode in (lambda octets: [decode_mptcp(octets)], decode_options):
        try:
            options = decode(data)
        except MalformedOption:
            continue
        if b"".join(each.encode() for each in options) != data:
            raise AssertionError(f"{options} does not encode back to {data.hex()}")
    segments: list[Segment] = []
    for link_type in LINK_TYPES:
        segment = read_frame(link_type, data, len(data) + 40)
        if isinstance(segment, Segment):
            segments.append(segment)
    analyse(segments)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
