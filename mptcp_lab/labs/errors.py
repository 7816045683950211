"""What can go wrong with the embedded lab."""

from __future__ import annotations

from mptcp_lab.errors import LabError


class EmbeddedError(LabError):
    """The embedded lab cannot do what was asked: what happened, and the next command to type."""

    def __init__(self, what: str, next_step: str) -> None:
        super().__init__(what, "embedded lab", next_step)
