"""Group checks that did not pass by their cause, so that every view names a cause once. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Cause:
    """A cause: what is wrong, at which place (a host, or empty), and the command that repairs it."""

    what: str
    where: str = ""
    next_step: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what


@dataclass(frozen=True)
class SharedCause:
    """A cause and the cases that did not pass because of it, in the order of the run.

    ``verdict`` is the word of the most severe verdict among them: ``fail``, else the first one's.
    """

    cause: Cause
    cases: tuple[str, ...]
    verdict: str

    @property
    def count(self) -> str:
        """Return the number of cases with its noun, such as `2 checks`."""
        return f"{len(self.cases)} check" + ("" if len(self.cases) == 1 else "s")

    def __str__(self) -> str:
        step = f"; next: {self.cause.next_step}" if self.cause.next_step else ""
        return f"{self.cause} ({self.count}){step}"


def group_by_cause(explained: Iterable[tuple[Cause, str, str]]) -> tuple[SharedCause, ...]:
    """Return each cause with its cases, the one with the most cases first, from (cause, case, verdict)."""
    found: dict[Cause, list[tuple[str, str]]] = {}
    for cause, case, verdict in explained:
        found.setdefault(cause, []).append((case, verdict))
    every = []
    for cause, members in found.items():
        verdicts = [verdict for _, verdict in members]
        worst = "fail" if "fail" in verdicts else verdicts[0]
        every.append(SharedCause(cause, tuple(case for case, _ in members), worst))
    return tuple(sorted(every, key=lambda shared: -len(shared.cases)))
