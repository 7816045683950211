"""The common part of all operations of the probe."""

from __future__ import annotations

from ..basics import Json, Registry
from ..tools import Commands


class Operations:
    """The items that calls have opened, the commands that run, and the channel to the controller."""

    def __init__(self) -> None:
        self.open = Registry()
        self.commands = Commands()

    def say(self, message: Json) -> None:
        """Send a message to the controller."""
        raise NotImplementedError
