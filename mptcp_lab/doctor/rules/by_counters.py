"""Causes that only counters of both ends show, for connections that are not MPTCP or lack subflows.

The rules are those of `mptcp_lab/doctor/counters.py`, of which the first that matches counts, and one for
each counter of Linux 7 that says why a subflow was reset.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial

from mptcp_lab.doctor.connection_reading import ConnectionReading
from mptcp_lab.doctor.counters import HEALTHY, RESET_COUNTERS, Diagnosis, diagnose
from mptcp_lab.doctor.counters import RULES as COUNTER_RULES
from mptcp_lab.doctor.finding import Confidence, Finding, Rule, Severity
from mptcp_lab.doctor.host_reading import HostReading
from mptcp_lab.doctor.readings import Leg, PairReading
from mptcp_lab.doctor.rules._causes import CAUSES_OF_MISSING
from mptcp_lab.doctor.rules._common import is_complete
from mptcp_lab.probe.facts import Counters

GROUP = "MPTcpExt"
PREFIX = "counters-"


def name_of(diagnosis: Diagnosis) -> str:
    """Return the name of the rule that finds a diagnosis."""
    return PREFIX + re.sub(r"[^a-z]+", "-", diagnosis.cause.lower()).strip("-")


def name_of_reset(counter: str) -> str:
    """Return the name of the rule about a counter of resets."""
    return "reset-" + re.sub(r"(?<=[a-z])(?=[A-Z])", "-", counter).lower()


RESETS = tuple(name_of_reset(each) for each in RESET_COUNTERS)


def count(host: HostReading | None, moved: dict[str, int]) -> Counters:
    """Return how much a host's MPTCP counters moved; those that its kernel lacks are absent."""
    names = dict.fromkeys(host.counters.get(GROUP, {}), 0) if host is not None else {}
    return Counters({GROUP: {**names, **moved}}, host.name if host else "", host.kernel if host else "")


def diagnose_leg(leg: Leg) -> Diagnosis:
    """Return the first diagnosis that the counters of a leg's ends give."""
    if leg.connection is None or is_complete(leg):
        return HEALTHY
    client = count(leg.client, dict(leg.connection.client_counters.get(GROUP, {})))
    server = count(leg.server, dict(leg.connection.server_counters.get(GROUP, {})))
    speaks = leg.server is None or not leg.server.mptcp_socket
    return diagnose(client, server, server_speaks=speaks)


def find(diagnosis: Diagnosis, reading: PairReading) -> Iterable[Finding]:
    """Find legs whose counters give a diagnosis."""
    for leg in reading.legs:
        if diagnose_leg(leg) != diagnosis or leg.connection is None:
            continue
        server = leg.server.name if leg.server is not None else "the server"
        yield Finding(
            rule=name_of(diagnosis),
            severity=Severity.WARNING,
            host=leg.client.name,
            what=f"Counters of {leg.client.name} and {server} show: {diagnosis.cause}.",
            why="They moved while the doctor's connection, which is not as it should be, was open.",
            fix="nstat -as 'MPTcpExt*'",
            confidence=Confidence.LIKELY,
            evidence=_evidence(leg, leg.connection),
            follows_from=(*CAUSES_OF_MISSING, *RESETS),
        )


def _evidence(leg: Leg, connection: ConnectionReading) -> tuple[str, ...]:
    """Return the counters of connections and joins that moved at each end."""
    names = (
        (leg.client.name, connection.client_counters),
        (leg.server.name if leg.server else "", connection.server_counters),
    )
    lines = []
    for name, groups in names:
        moved = [f"{each} {by}" for each, by in groups.get(GROUP, {}).items() if by]
        if moved and name:
            lines.append(f"{name}: {', '.join(moved)}")
    return tuple(lines)


def find_reset(counter: str, reading: PairReading) -> Iterable[Finding]:
    """Find legs at an end of which a counter of resets moved."""
    meaning = RESET_COUNTERS[counter]
    for leg in reading.legs:
        if leg.connection is None or is_complete(leg):
            continue
        ends = (
            (leg.client, leg.connection.client_counter(counter)),
            (leg.server, leg.connection.server_counter(counter)),
        )
        for host, moved in ends:
            if host is not None and moved:
                yield Finding(
                    rule=name_of_reset(counter),
                    severity=Severity.WARNING,
                    host=host.name,
                    what=f"{host.name} reset subflows: {meaning.cause}.",
                    why="The kernel counts why it refuses or resets a subflow.",
                    fix=f"nstat -as MPTcpExt{counter}",
                    confidence=Confidence.LIKELY,
                    evidence=(f"{counter} moved by {moved}",),
                    follows_from=CAUSES_OF_MISSING,
                )


def bind(
    function: Callable[..., Iterable[Finding]], first: object
) -> Callable[[PairReading], Iterable[Finding]]:
    """Return a rule's function that has its first argument."""
    return partial(function, first)


RULES = (
    *(
        Rule(name_of_reset(c), f"`{c}` moves (Linux 7)", bind(find_reset, c), d.advice)
        for c, d in RESET_COUNTERS.items()
    ),
    *(
        Rule(name_of(r.diagnosis), r.fingerprint, bind(find, r.diagnosis), r.diagnosis.advice)
        for r in COUNTER_RULES
    ),
)
