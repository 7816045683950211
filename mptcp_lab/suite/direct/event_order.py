"""Compare the events of a path manager with an expected list. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Event = Mapping[str, Any]
#: Fields that an event lacks where they are zero.
ZERO = {"error": 0, "server_side": 0, "backup": 0, "loc_id": 0, "rem_id": 0}
NOT_SHOWN = ("event", "watch", "at", "type", "token", "if_index")


@dataclass(frozen=True)
class Expected:
    """An event: its type, and the fields that it has to have."""

    type: str
    fields: Event

    def matches(self, event: Event) -> bool:
        """Return whether an event is of this type, and has these values in these fields."""
        found = {**ZERO, **event}
        return event["type"] == self.type and all(found.get(key) == self.fields[key] for key in self.fields)

    def __str__(self) -> str:
        return describe({**self.fields, "type": self.type})


def expect(type_: str, **fields: object) -> Expected:
    """Return an expected event."""
    return Expected(type_, fields)


#: Events in their order; those of an inner list may come in any order.
Order = Sequence[Expected | Sequence[Expected]]


def describe(event: Event) -> str:
    """Return an event as one line: its type, and its fields without the token and the time."""
    return " ".join([event["type"], *(f"{key}={event[key]}" for key in event if key not in NOT_SHOWN)])


def count(order: Order) -> int:
    """Return how many events are expected."""
    return sum(1 if isinstance(each, Expected) else len(each) for each in order)


def find_difference(order: Order, came: Sequence[Event]) -> str:
    """Return how the events that came differ from those that were expected; an empty string if they do not.

    Each expected event has to come once, in its place, and no other may come.
    """
    rest = list(came)
    for each in order:
        group = [each] if isinstance(each, Expected) else list(each)
        here, rest = rest[: len(group)], rest[len(group) :]
        for expected in group:
            found = next((event for event in here if expected.matches(event)), None)
            if found is None:
                return f"expected {expected} here, came {'; '.join(map(describe, here)) or 'nothing'}"
            here.remove(found)
    return f"nobody expects {'; '.join(map(describe, rest))}" if rest else ""
