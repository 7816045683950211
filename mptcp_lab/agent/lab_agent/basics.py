"""Shared basics: the agent's error class, a registry of open objects, the clocks, the patience factor."""

from __future__ import annotations

import errno
import itertools
import threading
import time
from pathlib import Path
from typing import Any

Json = dict[str, Any]
RUN = Path("/run/mptcp-lab")  # state that must outlive the probe: fault records, lease, origin sockets


_patience = [1.0]


def set_patience(factor: float) -> None:
    """Multiply every wait of this process by `factor`, which the controller measured for this host."""
    _patience[0] = factor


def patient(seconds: float) -> float:
    """Return a wait in seconds, multiplied by this host's patience."""
    return seconds * _patience[0]


class AgentError(Exception):
    """An operation failed: `kind` is a fixed word for programs, the message is for people.

    `number` is the errno, if there is one; `more` holds further fields of the error document.
    """

    def __init__(self, kind: str, message: str, number: int | None = None, **more: Any) -> None:
        super().__init__(message)
        self.kind = kind
        self.errno = number
        self.more = more


def describe_error(error: BaseException) -> Json:
    """Return the error document of an answer: kind, message, errno, and the error's further fields."""
    if isinstance(error, AgentError):
        return {"kind": error.kind, "message": str(error), "errno": error.errno, **error.more}
    if isinstance(error, OSError):
        name = errno.errorcode.get(error.errno or 0, "")
        return {"kind": "os", "message": f"{name} {error}".strip(), "errno": error.errno}
    kind = "bad-request" if isinstance(error, (KeyError, TypeError, ValueError)) else "internal"
    return {"kind": kind, "message": f"{type(error).__name__}: {error}", "errno": None}


def read_clock() -> Json:
    """Return the monotonic and the realtime clock, read within microseconds of each other, in seconds.

    The result is the best of five readings; `spread` is the time that it took.
    """
    pairs = []
    for _ in range(5):
        before = time.monotonic_ns()
        wall = time.time_ns()
        after = time.monotonic_ns()
        pairs.append((after - before, (before + after) // 2, wall))
    spread, monotonic, wall = min(pairs)
    return {"monotonic": monotonic / 1e9, "realtime": wall / 1e9, "spread": spread / 1e9}


class Registry:
    """Objects that calls have opened, by id ("stream-3"), so that later calls can refer to them."""

    def __init__(self) -> None:
        self._items: dict[str, Any] = {}
        self._count = itertools.count(1)
        self._lock = threading.Lock()

    def add(self, kind: str, item: Any) -> str:
        """Store an item and return its new id."""
        with self._lock:
            name = f"{kind}-{next(self._count)}"
            self._items[name] = item
        return name

    def get(self, name: str) -> Any:
        """Return the item with this id; raise AgentError "unknown-id" if there is none."""
        with self._lock:
            if name not in self._items:
                raise AgentError("unknown-id", f"{name} is not open here; it was closed or never existed")
            return self._items[name]

    def pop(self, name: str) -> Any:
        """Remove and return the item with this id; raise AgentError "unknown-id" if there is none."""
        item = self.get(name)
        with self._lock:
            self._items.pop(name, None)
        return item

    def drain(self) -> list[Any]:
        """Remove and return all items, the newest first."""
        with self._lock:
            items = list(self._items.values())[::-1]
            self._items.clear()
        return items
