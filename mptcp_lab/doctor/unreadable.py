"""A reading that could not be taken: it is neither empty nor absent, and has its reason. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self, TypeVar

from mptcp_lab.probe.shapes import Misshapen, read_as

T = TypeVar("T")


@dataclass(frozen=True)
class Unreadable:
    """A reading that could not be taken, and why: "needs root", "nft: not installed"."""

    why: str

    @classmethod
    def from_answer(cls, document: Any) -> Self:
        """Parse {"unreadable": why}; raise `Misshapen` for anything else."""
        if not isinstance(document, dict) or document.keys() != {"unreadable"}:
            raise Misshapen("not unreadable")
        return cls(read_as(str, document["unreadable"]))

    def to_document(self) -> dict[str, str]:
        """Return the document that `from_answer` parses."""
        return {"unreadable": self.why}


NOT_READ = Unreadable("not read")


def read_or(value: T | Unreadable, default: T) -> T:
    """Return a reading, or ``default`` where it could not be taken."""
    return default if isinstance(value, Unreadable) else value
