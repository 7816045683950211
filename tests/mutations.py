"""Generate damaged versions of a valid document; the same seed gives the same versions."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

DEEP: Any = []
for _ in range(60):
    DEEP = [DEEP]

#: The values that replace a value of the document.
VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    7,
    -1,
    1.5,
    10**30,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "text",
    "pass",
    "\x1b]0;owned\x07\x1b[2J\x1b[1;32mexit code 0: all well\x1b[0m",
    "two\nlines\rthree",
    "nul\0in it",
    "\u202egnp.txt",
    "half a \ud800 pair",
    "\x9b31m\x85\u2028",
    "../../../etc/passwd",
    "x" * 70_000,
    [],
    [None],
    {},
    {"name": 1},
    DEEP,
)


def spoilt(document: Any, seed: int, count: int) -> Iterator[Any]:
    """Yield `count` copies of a document, each with one to three changes at random places."""
    chance = random.Random(seed)
    for _ in range(count):
        changed = copy.deepcopy(document)
        for _ in range(chance.choice((1, 1, 1, 2, 3))):
            _change(changed, chance)
        yield changed


def spoilt_text(text: str, seed: int, count: int) -> Iterator[bytes]:
    """Yield `count` copies of a text, each truncated, overwritten, duplicated or deeply nested."""
    chance = random.Random(seed)
    content = text.encode()
    for _ in range(count):
        at = chance.randrange(len(content))
        end = min(len(content), at + chance.randrange(1, 60))
        yield chance.choice(
            (
                content[:at],
                content[:at] + bytes([chance.randrange(256)]) + content[at + 1 :],
                content[:at] + chance.randbytes(3) + content[at:],
                content[:at] + content[end:],
                content[:end] + content[at:],
                content[:at] + b"[" * chance.choice((50, 5_000, 200_000)) + content[at:],
                content[:at] + b"9" * 6_000 + content[at:],
                b"\xff\xfe" + content,
                content + content,
            )
        )


def as_json(document: Any) -> bytes:
    """Return the document as JSON, with NaN and lone surrogates as Python writes them."""
    return json.dumps(document).encode()


def _change(document: Any, chance: random.Random) -> None:
    places = list(_places(document))
    if not places:
        return
    holder, key = chance.choice(places)
    match chance.randrange(6):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[chance.choice(("extra", "\x1b[31m", "name", ""))] = chance.choice(VALUES)
        case 1 | 2 if isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        case _:
            holder[key] = copy.deepcopy(chance.choice(VALUES))


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    entries = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in entries:
        yield document, key
        if isinstance(value, dict | list) and value is not DEEP and len(value) < 1000:
            yield from _places(value) if not _is_deep(value) else ()


def _is_deep(value: Any) -> bool:
    for _ in range(20):
        if not (isinstance(value, list) and value):
            return False
        value = value[0]
    return True
