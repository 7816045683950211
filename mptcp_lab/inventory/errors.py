"""The error that this package raises for a wrong inventory."""

from __future__ import annotations

from mptcp_lab.errors import LabError


class InventoryError(LabError):
    """The inventory is wrong: host, variable, problem, a correct example, and file and line if known.

    ``location`` is ``file:line``, or empty if the file is not known.
    """

    def __init__(self, host: str, variable: str, problem: str, example: str, location: str = "") -> None:
        place = ": ".join(part for part in (location or "inventory", host, variable) if part)
        super().__init__(problem, place, f"correct it, for example: {example}")
        self.host, self.variable, self.problem, self.example = host, variable, problem, example
        self.location = location

    def with_location(self, location: str) -> InventoryError:
        """Return the same error with a location (``file:line``), unless it has one already."""
        if self.location or not location:
            return self
        return InventoryError(self.host, self.variable, self.problem, self.example, location)
