"""Compare kernel releases with a range such as ``>=5.15,<6.3``, by their major and minor numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: The range of a behaviour that is an engine's: it does not depend on the kernel.
ANY = "any"
_RANGE = re.compile(r">=(\d+\.\d+)(?:,<(\d+\.\d+))?")


@dataclass(frozen=True)
class KernelRange:
    """The kernel releases from ``first`` on and before ``end``; no ``end`` means that none is known."""

    first: tuple[int, ...]
    end: tuple[int, ...] = ()

    def has(self, release: str) -> bool:
        """Return whether a release, such as 6.1.0-56-amd64, is in the range; False if it has no version."""
        found = version(release)
        return bool(found) and self.first <= found and (not self.end or found < self.end)


def parse(text: str) -> KernelRange | None:
    """Return the range that a text describes, or None for `ANY`.

    Raises:
        ValueError: the text is neither `ANY` nor a range.
    """
    if text == ANY:
        return None
    found = _RANGE.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r} is not a range of kernels such as '>=5.15' or '>=5.15,<6.3', nor '{ANY}'")
    return KernelRange(version(found[1]), version(found[2] or ""))


def version(release: str) -> tuple[int, ...]:
    """Return major and minor number of a kernel release; empty if it does not begin with them."""
    found = re.match(r"(\d+)\.(\d+)", release)
    return (int(found[1]), int(found[2])) if found else ()
