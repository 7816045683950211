"""Define the levels of claims."""

from __future__ import annotations

from enum import StrEnum


class Level(StrEnum):
    """The level of a claim: it decides the verdict of a breach. INFO is for measured figures."""

    MUST = "MUST"
    SHOULD = "SHOULD"
    INFO = "INFO"
