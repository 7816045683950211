"""Define the exceptions of the project; each has a message, a place and the next command."""

from __future__ import annotations

from mptcp_lab.text import make_printable


class LabError(Exception):
    """Base class of the project's errors.

    ``what`` describes the failure, ``where`` names a host, a file or a variable, and ``next_step`` is the
    next action or command.
    """

    def __init__(self, what: str, where: str = "", next_step: str = "") -> None:
        super().__init__(what, where, next_step)
        self.what = what
        self.where = where
        self.next_step = next_step

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        step = f"; next: {self.next_step}" if self.next_step else ""
        return make_printable(f"{place}{self.what}{step}")


class LabBroken(LabError):
    """The lab cannot be used any more: the run stops, other checks are inconclusive, the exit code is 4."""


class LabBusy(LabError):
    """Another run holds the lab: this run ends before it changes anything; the exit code is 5."""


class Inconclusive(LabError):
    """One check cannot be decided because of ``part`` (a host or a part of the lab); the run continues."""

    def __init__(self, part: str, why: str, next_step: str = "") -> None:
        super().__init__(why, part, next_step)


class Breach(LabError):
    """A helper of a check found that the claim does not hold; it counts like a failed assertion in it."""


class Disturbed(Inconclusive):
    """Another party changed the lab during the check: it is inconclusive, whatever else the check found."""


class Unsupported(LabError):
    """A capability is missing; it is detected by use, never by a version number."""

    def __init__(self, capability: str, why: str, where: str = "") -> None:
        super().__init__(f"{capability}: {why}", where)
        self.capability = capability
        self.why = why
