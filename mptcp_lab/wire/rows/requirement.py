"""A row: one requirement of RFC 8684, and the pure function that looks for it in an analysed connection."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from mptcp_lab.wire.model import Connection, Finding


class Level(Enum):
    """How binding a requirement is."""

    MUST = "MUST"
    SHOULD = "SHOULD"


class Outcome(Enum):
    """What a connection shows of a requirement."""

    OK = "ok"
    BREACH = "breach"
    NOT_OBSERVED = "not-observed"


@dataclass(frozen=True, slots=True)
class Observation:
    """The outcome, the packets that show it (numbers in the capture), and what is in them."""

    outcome: Outcome
    packets: tuple[int, ...] = ()
    detail: str = ""


Check = Callable[[Connection], Observation]


@dataclass(frozen=True, slots=True)
class Row:
    """A requirement: `id` is RFC8684-<section>/<n>, `alias` the catalogue's R-number."""

    id: str
    alias: str
    level: Level
    requirement: str
    check: Check


_REGISTERED: list[Row] = []


def row(number: str, alias: str, level: Level, requirement: str) -> Callable[[Check], Check]:
    """Register a check as the row RFC8684-<number>."""

    def register(check: Check) -> Check:
        _REGISTERED.append(Row(f"RFC8684-{number}", alias, level, requirement, check))
        return check

    return register


def registered() -> tuple[Row, ...]:
    """All rows whose modules are imported, in the order of the catalogue."""
    return tuple(sorted(_REGISTERED, key=lambda each: each.alias))


def ok(*packets: int | None, detail: str = "") -> Observation:
    """The requirement holds, as these packets show."""
    return Observation(Outcome.OK, _numbers(packets), detail)


def breach(detail: str, *packets: int | None) -> Observation:
    """The requirement does not hold, as these packets show."""
    return Observation(Outcome.BREACH, _numbers(packets), detail)


def unseen(detail: str) -> Observation:
    """The capture says nothing about the requirement, and why."""
    return Observation(Outcome.NOT_OBSERVED, (), detail)


def _numbers(packets: Iterable[int | None]) -> tuple[int, ...]:
    return tuple(sorted({each for each in packets if each is not None}))


def worst(observations: Iterable[Observation], nothing: str) -> Observation:
    """Several observations of one requirement in one: a breach beats ok beats `nothing` observed."""
    seen = [each for each in observations if each.outcome is not Outcome.NOT_OBSERVED]
    if not seen:
        return unseen(nothing)
    for outcome in (Outcome.BREACH, Outcome.OK):
        these = [each for each in seen if each.outcome is outcome]
        if these:
            packets = _numbers(number for each in these for number in each.packets)
            return Observation(outcome, packets, "; ".join(each.detail for each in these if each.detail))
    raise AssertionError("neither breach nor ok among what was seen")


def without(findings: list[Finding], when_none: Observation) -> Observation:
    """A breach for what the analyser found, else `when_none`."""
    if findings:
        return breach(findings[0].detail, *(each.packet for each in findings[:5]))
    return when_none
