"""What can go wrong, as exceptions that say what, where and what to do next."""

from __future__ import annotations

from mptcp_lab.text import make_printable


class LabError(Exception):
    """Something is not as it must be.

    ``what`` happened, ``where`` (a host, a file, a variable), and the ``next_step`` to take or type.
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
    """The lab cannot be used any further: the run stops politely, the rest is inconclusive, exit code 4."""


class LabBusy(LabError):
    """Somebody else holds the lab: the run ends before anything is touched, exit code 5."""


class Inconclusive(LabError):
    """One check cannot be decided because of ``part`` (a host or a part of the lab); the run goes on."""

    def __init__(self, part: str, why: str, next_step: str = "") -> None:
        super().__init__(why, part, next_step)


class Breach(LabError):
    """A helper of the checks saw what the claim forbids; like a failed assertion of the check itself."""


class Disturbed(Inconclusive):
    """Somebody else changed the lab while the check ran: that decides, whatever the check found."""


class Unsupported(LabError):
    """A capability is missing; found by use, never by a version number."""

    def __init__(self, capability: str, why: str, where: str = "") -> None:
        super().__init__(f"{capability}: {why}", where)
        self.capability = capability
        self.why = why
