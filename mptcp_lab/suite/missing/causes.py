"""Name the cause of each missing subflow: that of the first rule that finds evidence. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mptcp_lab.doctor.counters import join_errors
from mptcp_lab.suite.missing.readings import PairReading, Readings
from mptcp_lab.suite.missing.rules import BY_ENDPOINTS, RULES

PAIRS_SHOWN = 6


@dataclass(frozen=True)
class Cause:
    """A reason why subflows are missing, with its evidence and advice."""

    cause: str
    evidence: str
    advice: str


def cause_of(readings: Readings, pair: PairReading) -> Cause:
    """Return why a subflow is missing; if no rule applies, its socket states and the join errors."""
    for rule in RULES:
        if rule.finds in BY_ENDPOINTS and not readings.made_by_endpoints:
            continue
        if evidence := rule.finds(readings, pair):
            return Cause(rule.cause, evidence, rule.advice)
    errors = join_errors(readings.client.counters, readings.server.counters)
    state = f"{pair.client_state or 'no socket'} at the client, {pair.server_state or 'none'} at the server"
    return Cause(
        "no rule explains it",
        ", ".join(filter(None, (state, errors))),
        "the captures of this check show more",
    )


def causes(readings: Readings) -> dict[Cause, tuple[PairReading, ...]]:
    """Return the missing subflows grouped by their cause."""
    found: dict[Cause, list[PairReading]] = {}
    for pair in readings.pairs:
        found.setdefault(cause_of(readings, pair), []).append(pair)
    return {cause: tuple(pairs) for cause, pairs in found.items()}


def describe_causes(found: Mapping[Cause, Sequence[PairReading]], expected: int) -> str:
    """Return a message: how many subflows are missing, and one line for each cause."""
    missing = sum(len(pairs) for pairs in found.values())
    lines = [f"{missing} of {expected} expected subflows are missing"]
    for cause, pairs in found.items():
        lines.append(f"{_list_pairs(pairs)}: {cause.cause} ({cause.evidence}); {cause.advice}")
    return "\n".join(lines)


def _list_pairs(pairs: Iterable[PairReading]) -> str:
    names = [str(pair) for pair in pairs]
    more = f" and {len(names) - PAIRS_SHOWN} more" if len(names) > PAIRS_SHOWN else ""
    return ", ".join(names[:PAIRS_SHOWN]) + more
