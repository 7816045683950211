"""How binding a claim is."""

from __future__ import annotations

from enum import StrEnum


class Level(StrEnum):
    """How binding a claim is."""

    MUST = "MUST"
    SHOULD = "SHOULD"
    INFO = "INFO"
