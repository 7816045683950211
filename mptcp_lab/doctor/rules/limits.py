"""The limits of a host leave no room for subflows (`ip mptcp limits`), or its endpoints ask for too many."""

from __future__ import annotations

from collections.abc import Iterable

from mptcp_lab.doctor.finding import Confidence, Finding, Rule, Severity
from mptcp_lab.doctor.host_reading import HostReading
from mptcp_lab.doctor.readings import PairReading
from mptcp_lab.doctor.rules._common import (
    MOST_SUBFLOWS,
    announced_endpoints,
    count_joined,
    count_wanted,
    describe_pairs,
    family_of,
    joining_endpoints,
    keep_command,
    legs_with_server,
    over_limit,
)
from mptcp_lab.doctor.unreadable import Unreadable

RAISE = f"ip mptcp limits set subflows {MOST_SUBFLOWS} add_addr_accepted {MOST_SUBFLOWS}"
KEEP = keep_command("mptcp-limits", RAISE)


def find_client_limit(reading: PairReading) -> Iterable[Finding]:
    """Find a client whose limit of additional subflows is lower than what its endpoints are for."""
    for leg in reading.legs:
        limits = leg.client.limits
        if isinstance(limits, Unreadable):
            continue
        wanted = count_wanted(leg)
        if limits.subflows < min(wanted, MOST_SUBFLOWS) and count_joined(leg) >= limits.subflows:
            yield _limit("client-subflow-limit", leg.client, limits.subflows, wanted, "opens")


def find_server_limit(reading: PairReading) -> Iterable[Finding]:
    """Find a server whose limit of additional subflows is lower than what the client's endpoints are for."""
    for leg, server in legs_with_server(reading):
        limits, wanted = server.limits, count_wanted(leg)
        if isinstance(limits, Unreadable):
            continue
        if limits.subflows < min(wanted, MOST_SUBFLOWS) and count_joined(leg) >= limits.subflows:
            rejected = leg.connection.server_counter("MPJoinRejected") if leg.connection else 0
            more = (f"MPJoinRejected {rejected}",) if rejected else ()
            yield _limit("server-subflow-limit", server, limits.subflows, wanted, "accepts", more)


def _limit(
    rule: str, host: HostReading, limit: int, wanted: int, verb: str, more: tuple[str, ...] = ()
) -> Finding:
    return Finding(
        rule=rule,
        severity=Severity.WARNING,
        host=host.name,
        what=f"{host.name} {verb} at most {limit} additional subflows, and {wanted} are wanted.",
        why="Both ends count: each stops at its own limit, which the kernel does not keep over a reboot.",
        fix=RAISE,
        persistent=KEEP,
        evidence=(f"ip mptcp limits: subflows {limit}", *more),
    )


def find_announcements_not_accepted(reading: PairReading) -> Iterable[Finding]:
    """Find a client that accepts fewer announced addresses than the server announces."""
    for leg, server in legs_with_server(reading):
        limits = leg.client.limits
        if isinstance(limits, Unreadable) or _has_laminar(leg.client):
            continue
        first = leg.connection.server_address if leg.connection else ""
        announced = [each.address for each in announced_endpoints(server) if each.address != first]
        if first and family_of(first) == 4:  # an IPv4 connection has no IPv6 subflows
            announced = [each for each in announced if family_of(each) == 4]
        accepted = limits.add_addr_accepted
        if accepted < len(announced):
            yield Finding(
                rule="announcements-not-accepted",
                severity=Severity.WARNING,
                host=leg.client.name,
                what=f"{leg.client.name} joins {accepted} announced addresses, {server.name} "
                f"announces {len(announced)}.",
                why="The default is 0: the client then never uses the server's other addresses.",
                fix=RAISE,
                persistent=KEEP,
                evidence=(
                    f"ip mptcp limits: add_addr_accepted {accepted}",
                    f"announced by {server.name}: {', '.join(announced)}",
                ),
            )


def _has_laminar(host: HostReading) -> bool:
    """Return whether a host's endpoints join announced addresses without the limit."""
    return any("laminar" in each.flags for each in joining_endpoints(host))


def find_more_pairs(reading: PairReading) -> Iterable[Finding]:
    """Find endpoints that ask for more pairs of addresses than a connection can have subflows."""
    for leg in reading.legs:
        missing = over_limit(leg)
        if missing and count_joined(leg) >= MOST_SUBFLOWS:
            yield Finding(
                rule="more-pairs-than-subflows",
                severity=Severity.NOTE,
                host=leg.client.name,
                what=f"The endpoints of {leg.client.name} ask for {count_wanted(leg)} additional subflows.",
                why=f"Linux holds {MOST_SUBFLOWS}: some pairs of addresses stay unused, and which is chance.",
                fix="ip mptcp endpoint change id ID nofullmesh",
                confidence=Confidence.LIKELY,
                evidence=(f"without a subflow: {describe_pairs(missing)}",),
            )


RULES = (
    Rule(
        "client-subflow-limit",
        "the client's limit `subflows` is lower than the number of subflows that its endpoints ask for",
        find_client_limit,
        f"`{RAISE}`",
    ),
    Rule(
        "server-subflow-limit",
        "the server's limit `subflows` is too low: it answers joins and resets them (`MPJoinRejected`)",
        find_server_limit,
        f"`{RAISE}` on the server",
    ),
    Rule(
        "announcements-not-accepted",
        "the client's limit `add_addr_accepted` is lower than the number of addresses that come",
        find_announcements_not_accepted,
        f"`{RAISE}`, or `laminar` endpoints",
    ),
    Rule(
        "more-pairs-than-subflows",
        f"fullmesh endpoints ask for more than {MOST_SUBFLOWS} additional subflows",
        find_more_pairs,
        "fewer fullmesh endpoints, or `laminar` ones",
    ),
)
