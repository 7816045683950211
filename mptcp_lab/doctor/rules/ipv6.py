"""IPv6 alone is broken: MPTCP uses each family where both ends have it, and only IPv4 comes up."""

from __future__ import annotations

from collections.abc import Iterable

from mptcp_lab.doctor.connection_reading import ESTABLISHED
from mptcp_lab.doctor.finding import Confidence, Finding, Rule, Severity
from mptcp_lab.doctor.readings import Leg, PairReading
from mptcp_lab.doctor.rules._causes import CAUSES_OF_TCP
from mptcp_lab.doctor.rules._common import (
    announce_with_port,
    announced_endpoints,
    endpoints,
    ends,
    family_of,
    keep_announced,
    keep_sysctl,
    legs_with_server,
    set_sysctl,
)
from mptcp_lab.doctor.rules.listeners import ANY_IPV4, covers

CAUSES = (*CAUSES_OF_TCP, "ipv6-disabled", "listener-without-ipv6", "no-route-for-source", "next-hop-silent")


def find_disabled(reading: PairReading) -> Iterable[Finding]:
    """Find IPv6 endpoints on devices that have IPv6 switched off."""
    for _, host, _ in ends(reading):
        for each in endpoints(host):
            device = each.device or host.device_of(each.address)
            scopes = ("all", device) if device else ("all",)
            names = [f"net.ipv6.conf.{scope}.disable_ipv6" for scope in scopes]
            off = [name for name in names if host.sysctl(name) == "1"]
            if family_of(each.address) == 6 and off:
                yield Finding(
                    rule="ipv6-disabled",
                    severity=Severity.WARNING,
                    host=host.name,
                    what=f"IPv6 is switched off on {host.name}, which has an endpoint for {each.address}.",
                    why="The device has no IPv6 address while it is off, so the path is not used.",
                    fix=set_sysctl(off[0], 0),
                    persistent=keep_sysctl(off[0], 0),
                    evidence=tuple(f"{name} = 1" for name in off),
                )


def find_listener(reading: PairReading) -> Iterable[Finding]:
    """Find services that listen on IPv4 only, on a server that announces IPv6 addresses."""
    for leg, server in legs_with_server(reading):
        found = [each for each in server.listeners_on(leg.port) if each.protocol == "mptcp"]
        asked = [e.address for e in announced_endpoints(server) if family_of(e.address) == 6 and not e.port]
        bare = [each for each in asked if not any(covers(one, each) for one in found)]
        attempts = leg.connection.attempts if leg.connection is not None else ()
        refused = [
            each for each in attempts if each.error == "ECONNREFUSED" and family_of(each.destination) == 6
        ]
        if not bare or not refused or not any(each.address == ANY_IPV4 for each in found):
            continue
        yield Finding(
            rule="listener-without-ipv6",
            severity=Severity.WARNING,
            host=server.name,
            what=f"The service on port {leg.port} of {server.name} listens on IPv4 only, and "
            f"{bare[0]} is announced.",
            why="Joins to the announced IPv6 addresses are refused.",
            fix=announce_with_port(bare, leg.port),
            persistent=keep_announced(bare, leg.port),
            evidence=tuple(f"ss -ltn: {each.address}:{each.port}" for each in found),
        )


def find_broken(reading: PairReading) -> Iterable[Finding]:
    """Find hosts between which everything over IPv4 comes up, and nothing over IPv6."""
    for leg in reading.legs:
        works = _list_by_family(leg)
        if not works[4] or not works[6] or not all(works[4].values()) or any(works[6].values()):
            continue
        source, destination = next(iter(works[6]))
        peer = leg.server.name if leg.server else "the server"
        yield Finding(
            rule="ipv6-broken",
            severity=Severity.WARNING,
            host=leg.client.name,
            what=f"Nothing over IPv6 from {leg.client.name} to {peer} comes up, all over IPv4 does.",
            why="Both ends have IPv6 addresses; routes, filters or neighbour discovery for them do not work.",
            fix=f"ping -6 -c 3 -I {source} {destination}",
            confidence=Confidence.LIKELY,
            evidence=tuple(f"no connection or subflow {a} > {b}" for a, b in works[6]),
            follows_from=CAUSES,
        )


def _list_by_family(leg: Leg) -> dict[int, dict[tuple[str, str], bool]]:
    """Return, for each family, the pairs that the doctor tried, and whether they came up."""
    works: dict[int, dict[tuple[str, str], bool]] = {4: {}, 6: {}}
    connection = leg.connection
    if connection is None:
        return works
    for pair in connection.pairs:
        if pair.is_expected:
            works[family_of(pair.client)][pair.client, pair.server] = pair.state == ESTABLISHED
    for each in connection.attempts[1:]:
        is_answered = each.error == "ECONNREFUSED"  # by a host that does not listen: the path works
        if each.source and each.protocol == "mptcp" and not is_answered:
            works[family_of(each.source)][each.source, each.destination] = not each.error
    return works


RULES = (
    Rule(
        "ipv6-disabled",
        "`disable_ipv6` is 1 on a host that has IPv6 endpoints",
        find_disabled,
        "`sysctl -w net.ipv6.conf.DEVICE.disable_ipv6=0`",
    ),
    Rule(
        "listener-without-ipv6",
        "the service listens on IPv4 only, and the server announces IPv6 addresses",
        find_listener,
        "listen on `[::]`, or do not announce them",
    ),
    Rule(
        "ipv6-broken",
        "every IPv4 pair has its subflow, no IPv6 pair has",
        find_broken,
        "`ping -6` from each address; ICMPv6 through the firewalls",
    ),
)
