"""The error that the labs on this machine raise."""

from __future__ import annotations

from mptcp_lab.errors import LabError


class EmbeddedError(LabError):
    """An action on a lab failed: the message gives the problem and the next command."""

    def __init__(self, what: str, next_step: str) -> None:
        super().__init__(what, "embedded lab", next_step)
