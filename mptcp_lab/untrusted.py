"""Read files from untrusted sources: limit size and depth, and check the type of each field.

It checks structure and types only; the callers know what the fields mean.
"""

from __future__ import annotations

import json
import math
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from mptcp_lab.text import shorten, to_one_line

MOST_BYTES = 64 << 20
DEEPEST = 40
TOO_DEEP = f"nested deeper than {DEEPEST} levels"

E = TypeVar("E", bound=StrEnum)


class Malformed(ValueError):
    """A document cannot be used; the message is meant to follow the file's name."""


def read_text(path: Path, most: int = MOST_BYTES) -> str:
    """Return the text of a regular file.

    Raises:
        Malformed: it is not a regular file, cannot be read, is larger than `most` bytes, or is not UTF-8.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise Malformed("not a regular file")
        with path.open("rb") as file:
            content = file.read(most + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        if isinstance(error, Malformed):
            raise
        raise Malformed(getattr(error, "strerror", None) or str(error)) from None
    if len(content) > most:
        raise Malformed(f"larger than {most >> 20} MiB")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise Malformed(f"cut short or not UTF-8 (at byte {error.start})") from None


def parse_json(text: str) -> Any:
    """Return the document in a JSON text.

    Raises:
        Malformed: it is not JSON, or has NaN, an infinity, a duplicate key or too deep nesting.
    """
    try:
        document = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_mapping)
    except RecursionError:
        raise Malformed(TOO_DEEP) from None
    except Malformed:
        raise
    except ValueError as error:
        raise Malformed(f"cut short or not JSON ({to_one_line(str(error))})") from None
    check_depth(document)
    return document


@dataclass(frozen=True)
class Node:
    """A value of a document and its place; each method raises `Malformed` if the value has another type."""

    value: Any
    place: str = ""

    def __getitem__(self, key: str) -> Node:
        found = self.mapping()
        if key not in found:
            raise Malformed(f"{self._where}no {key!r}")
        return Node(found[key], f"{self.place}.{key}" if self.place else key)

    def get(self, key: str, default: Any) -> Node:
        """Return a member of an object, or `default` if it is missing."""
        return self[key] if key in self.mapping() else Node(default, f"{self.place}.{key}".lstrip("."))

    def mapping(self) -> dict[str, Any]:
        """Return the value as an object whose keys are all text."""
        if not isinstance(self.value, dict) or not all(isinstance(key, str) for key in self.value):
            raise self._not("an object")
        return self.value

    def members(self) -> Iterator[tuple[str, Node]]:
        """Yield key and value of each member of an object."""
        for key in self.mapping():
            yield key, self[key]

    def items(self, most: int | None = None) -> list[Node]:
        """Return the entries of a list of at most `most` entries."""
        if not isinstance(self.value, list):
            raise self._not("a list")
        if most is not None and len(self.value) > most:
            raise Malformed(f"{self._where}more than {most} entries")
        return [Node(value, f"{self.place}[{number}]") for number, value in enumerate(self.value)]

    def text(self, least: int = 0) -> str:
        """Return the value as text of at least `least` characters."""
        if not isinstance(self.value, str) or len(self.value) < least:
            raise self._not("text")
        return self.value

    def text_or_none(self) -> str | None:
        """Return the value as text, or None if it is null."""
        return None if self.value is None else self.text()

    def texts(self) -> dict[str, str]:
        """Return the value as an object whose values are all text."""
        return {key: node.text() for key, node in self.members()}

    def number(self, least: float = -math.inf, most: float = math.inf) -> float:
        """Return the value as a finite number from `least` to `most`."""
        value = self.value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._not("a number")
        try:
            finite = math.isfinite(value)
        except OverflowError:
            finite = False
        if not finite or not least <= value <= most:
            raise self._not("a number in its range")
        return value

    def whole_number(self) -> int:
        """Return the value as a whole number."""
        if isinstance(self.value, bool) or not isinstance(self.value, int):
            raise self._not("a whole number")
        return self.value

    def flag(self) -> bool:
        """Return the value as a boolean."""
        if not isinstance(self.value, bool):
            raise self._not("true or false")
        return self.value

    def choice(self, words: type[E]) -> E:
        """Return the value as a member of an enumeration."""
        try:
            return words(self.text())
        except ValueError:
            raise self._not(f"one of {', '.join(words)}") from None

    def check_keys(self, *keys: str) -> None:
        """Raise `Malformed` if the object has a member with another name than these."""
        for key in self.mapping():
            if key not in keys:
                raise Malformed(f"{self._where}unknown key {shorten(key)}")

    @property
    def _where(self) -> str:
        return f"{to_one_line(self.place)}: " if self.place else ""

    def _not(self, what: str) -> Malformed:
        return Malformed(f"{self._where}{shorten(self.value)} is not {what}")


def _refuse_constant(word: str) -> float:
    raise Malformed(f"cut short or not JSON ({word} is no number of JSON)")


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise Malformed(f"key {shorten(twice)} is given twice in one object")
    return found


def check_depth(document: Any) -> None:
    """Raise `Malformed` if a document is nested deeper than DEEPEST levels."""
    level = [document]
    for _ in range(DEEPEST + 1):
        level = [
            inner
            for value in level
            if isinstance(value, dict | list)
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return
    raise Malformed(TOO_DEEP)
