"""The one filter between text that others wrote and a terminal, a page or an XML file."""

from __future__ import annotations

import re

#: A terminal's colours, which only decorate; pytest colours its differences.
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
#: Control characters (a terminal obeys them), marks that turn the direction of writing, separators of lines
#: that only some programs honour, halves of surrogate pairs and non-characters (no XML or UTF-8 holds them).
UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


def make_printable(text: str) -> str:
    """Return the text without colours, and with whatever else is not printable as an escape such as \\x1b.

    Line ends and tabs stay.
    """
    return UNPRINTABLE.sub(_escape, COLOURS.sub("", text))


def to_one_line(text: str) -> str:
    """Return the text as `make_printable` does, with line ends and tabs as escapes too."""
    return make_printable(text).replace("\n", "\\n").replace("\t", "\\t")


def shorten(value: object, most: int = 80) -> str:
    """Return a value's repr as one line of at most so many characters."""
    try:
        shown = to_one_line(repr(value))
    except ValueError:  # a whole number with more digits than Python converts
        shown = "a number of thousands of digits"
    return shown if len(shown) <= most else f"{shown[: most - 3]}..."


def _escape(match: re.Match[str]) -> str:
    number = ord(match[0])
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"
