"""What can go wrong with the embedded lab."""

from __future__ import annotations


class EmbeddedError(Exception):
    """The embedded lab cannot do what was asked: what happened, and the next command to type."""

    def __init__(self, what: str, then: str) -> None:
        self.what, self.then = what, then
        super().__init__(f"{what}\n  next: {then}")
