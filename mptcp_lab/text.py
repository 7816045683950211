"""Make text from other programs safe for a terminal, a page or an XML file."""

from __future__ import annotations

import re

#: Colour codes of terminals; pytest colours the differences that it prints.
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
#: Control characters, which a terminal executes; marks that change the direction of writing; line separators
#: that only some programs interpret; surrogates and non-characters, which UTF-8 or XML cannot represent.
UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


def make_printable(text: str) -> str:
    """Return the text without colours; other unprintable characters become escapes such as \\x1b.

    Line ends and tabs are kept.
    """
    return UNPRINTABLE.sub(_escape, COLOURS.sub("", text))


def to_one_line(text: str) -> str:
    """Return the text like `make_printable`, with line ends and tabs as escapes too."""
    return make_printable(text).replace("\n", "\\n").replace("\t", "\\t")


def shorten(value: object, most: int = 80) -> str:
    """Return a value's repr as one line of at most `most` characters."""
    try:
        shown = to_one_line(repr(value))
    except ValueError:  # an integer with more digits than Python converts to text
        shown = "a number of thousands of digits"
    return shown if len(shown) <= most else f"{shown[: most - 3]}..."


def _escape(match: re.Match[str]) -> str:
    number = ord(match[0])
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"
