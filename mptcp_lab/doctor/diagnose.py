"""Name what is wrong with hosts: run all rules, and never call an unhealthy connection healthy. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from mptcp_lab.doctor.finding import Confidence, Finding, Rule, Severity, find_all, fold
from mptcp_lab.doctor.readings import Leg, PairReading
from mptcp_lab.doctor.rules import gather

UNEXPLAINED = "unexplained"
PAIRS_SHOWN = 4


def diagnose(reading: PairReading, rules: Iterable[Rule] | None = None) -> tuple[Finding, ...]:
    """Return the findings of a reading, worst first.

    Where a connection failed, fell back or lacks subflows and no error or warning was found, a finding says
    so.
    """
    found = find_all(gather() if rules is None else rules, reading)
    if any(each.severity is not Severity.NOTE for each in found):
        return found
    judged = [leg for leg in reading.connections if leg in reading.legs or not _is_connected(leg)]
    return fold([*(each for leg in judged for each in _unexplained_findings(leg)), *found])


def _is_connected(leg: Leg) -> bool:
    """Return whether a connection was made, by MPTCP or not."""
    return leg.connection is not None and leg.connection.is_connected


def diagnose_all(readings: Sequence[PairReading]) -> tuple[Finding, ...]:
    """Return the findings of several pairs, each once, worst first."""
    found = [finding for reading in readings for finding in diagnose(reading)]
    return tuple(sorted(dict.fromkeys(found), key=lambda each: list(Severity).index(each.severity)))


def _unexplained_findings(leg: Leg) -> Iterator[Finding]:
    """Yield what is wrong with a connection, without its cause."""
    connection, peer = leg.connection, leg.server.name if leg.server else "the server"
    what, why = "", "No rule explains it."
    evidence: tuple[str, ...] = ()
    if connection is None:
        what = f"{peer} has no address that {leg.client.name} could connect to."
    elif connection.first is None or connection.first.error:
        error = connection.first.error if connection.first else "not tried"
        what = f"{leg.client.name} cannot connect to {connection.server_address} port {leg.port} ({error})."
    elif connection.is_mptcp is False:
        what = f"The connection from {leg.client.name} to {peer} port {leg.port} is plain TCP."
        why = "It uses one path only. No rule explains it."
    elif missing := connection.missing_pairs():
        what = (
            f"{len(missing)} of {connection.expected} expected subflows from {leg.client.name} to {peer} "
            "did not come up."
        )
        why = "The connection does not use these paths. No rule explains it."
        evidence = tuple(f"{pair.client} > {pair.server}: {pair.state}" for pair in missing[:PAIRS_SHOWN])
    if what:
        yield Finding(
            rule=UNEXPLAINED,
            severity=Severity.ERROR,
            host=leg.client.name,
            what=what,
            why=why,
            confidence=Confidence.CERTAIN,
            evidence=evidence,
        )
