"""Read files that others wrote: limits of size and depth, and a type for every field. Knows no format."""

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
    """A document cannot be used; the message goes on after the file's name."""


def read_text(path: Path, most: int = MOST_BYTES) -> str:
    """Return a regular file's text; raise `Malformed` where it is none, too large or not UTF-8."""
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
    """Return what a JSON text holds; refuse NaN, infinities, a key given twice, and deep nesting."""
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
    """A value of a document and its place in it; each reader raises `Malformed` where the type is another."""

    value: Any
    place: str = ""

    def __getitem__(self, key: str) -> Node:
        found = self.mapping()
        if key not in found:
            raise Malformed(f"{self._where}no {key!r}")
        return Node(found[key], f"{self.place}.{key}" if self.place else key)

    def get(self, key: str, default: Any) -> Node:
        """Return a member that may be missing."""
        return self[key] if key in self.mapping() else Node(default, f"{self.place}.{key}".lstrip("."))

    def mapping(self) -> dict[str, Any]:
        """Return an object whose keys are all text."""
        if not isinstance(self.value, dict) or not all(isinstance(key, str) for key in self.value):
            raise self._not("an object")
        return self.value

    def members(self) -> Iterator[tuple[str, Node]]:
        """Yield key and value of an object."""
        for key in self.mapping():
            yield key, self[key]

    def items(self, most: int | None = None) -> list[Node]:
        """Return the entries of a list."""
        if not isinstance(self.value, list):
            raise self._not("a list")
        if most is not None and len(self.value) > most:
            raise Malformed(f"{self._where}more than {most} entries")
        return [Node(value, f"{self.place}[{number}]") for number, value in enumerate(self.value)]

    def text(self, least: int = 0) -> str:
        """Return a text of at least so many characters."""
        if not isinstance(self.value, str) or len(self.value) < least:
            raise self._not("text")
        return self.value

    def text_or_none(self) -> str | None:
        """Return a text or None."""
        return None if self.value is None else self.text()

    def texts(self) -> dict[str, str]:
        """Return an object whose values are all text."""
        return {key: node.text() for key, node in self.members()}

    def number(self, least: float = -math.inf, most: float = math.inf) -> float:
        """Return a finite number within bounds."""
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

    def whole(self) -> int:
        """Return a whole number."""
        if isinstance(self.value, bool) or not isinstance(self.value, int):
            raise self._not("a whole number")
        return self.value

    def flag(self) -> bool:
        """Return true or false."""
        if not isinstance(self.value, bool):
            raise self._not("true or false")
        return self.value

    def choice(self, words: type[E]) -> E:
        """Return a word of an enumeration."""
        try:
            return words(self.text())
        except ValueError:
            raise self._not(f"one of {', '.join(words)}") from None

    def only(self, *keys: str) -> None:
        """Refuse members with other names than these."""
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
    """Refuse a document that is nested too deep for those who walk through it."""
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
