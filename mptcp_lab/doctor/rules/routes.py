"""Joins of a client leave by another device than their address is on, or find no route at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mptcp_lab.doctor.connection_reading import ESTABLISHED, Pair
from mptcp_lab.doctor.expect import is_proper
from mptcp_lab.doctor.finding import Confidence, Finding, Rule, Severity
from mptcp_lab.doctor.network_reading import Lookup
from mptcp_lab.doctor.readings import Leg, PairReading
from mptcp_lab.doctor.rules._common import ends, keep_command, set_endpoint
from mptcp_lab.doctor.rules._ways import describe_lookup, find_way, gateways_of, give_table, has_rule
from mptcp_lab.doctor.unreadable import Unreadable, read_or


def find_empty_table(reading: PairReading) -> Iterable[Finding]:
    """Find routing rules of an address whose table has no route."""
    for leg, host, is_client in ends(reading):
        if isinstance(host.routes, Unreadable) or isinstance(host.rules, Unreadable):
            continue
        used = {each.client if is_client else each.server for each in _pairs(leg)}
        used |= {each.address for each in read_or(host.endpoints, ())}
        filled = {(each.family, each.table) for each in host.routes}
        for rule in host.rules:
            source = rule.source.split("/")[0]
            if source not in used or not rule.table or (rule.family, rule.table) in filled:
                continue
            device = host.device_of(source)
            if not device:
                continue  # the address itself is missing, and its routes went with it
            ip = "ip -6" if rule.family == 6 else "ip"
            gateway = next(iter(gateways_of(host, device, rule.family)), "GATEWAY")
            fix = f"{ip} route add default via {gateway} dev {device} table {rule.table}"
            yield Finding(
                rule="rule-to-empty-table",
                severity=Severity.WARNING,
                host=host.name,
                what=f"On {host.name} packets from {source} use table {rule.table}, which has no route.",
                why="The kernel then takes the main table: packets leave by another device, or not at all.",
                fix=fix,
                persistent=keep_command(f"mptcp-route-{source}", fix),
                evidence=(f"ip rule: {rule.priority}: from {rule.source} lookup {rule.table}",),
                follows_from=("endpoint-device-down",),
            )


def _pairs(leg: Leg) -> tuple[Pair, ...]:
    return leg.connection.pairs if leg.connection is not None else ()


def _ways_by_source(leg: Leg) -> Iterator[tuple[str, list[Lookup]]]:
    """Yield each of the client's addresses without a subflow, with its ways to the server's addresses."""
    working = {each.client for each in _pairs(leg) if each.state == ESTABLISHED}
    for source in dict.fromkeys(each.client for each in _pairs(leg)):
        asked = (
            find_way(leg.client, each.client, each.server) for each in _pairs(leg) if each.client == source
        )
        ways = [each for each in asked if each is not None]
        if source not in working and ways and leg.client.device_of(source):
            yield source, ways


def find_no_route(reading: PairReading) -> Iterable[Finding]:
    """Find addresses of a client from which no address of the server has a route."""
    for leg in reading.legs:
        for source, ways in _ways_by_source(leg):
            failed = [each for each in ways if each.error]
            if not failed or any(is_proper(leg.client, each) for each in ways):
                continue
            device = leg.client.device_of(source)
            fix = give_table(leg.client, source, device)
            yield Finding(
                rule="no-route-for-source",
                severity=Severity.WARNING,
                host=leg.client.name,
                what=f"{leg.client.name} has no route from {source} ({device}) to {failed[0].destination}.",
                why="A join is bound to its source address and device, and needs a route there.",
                fix=fix,
                persistent=keep_command(f"mptcp-route-{source}", fix),
                evidence=tuple(f"ip route get {describe_lookup(each)}: {each.error}" for each in failed),
                follows_from=("rule-to-empty-table", "endpoint-device-down", "ipv6-disabled"),
            )


def find_leaves_elsewhere(reading: PairReading) -> Iterable[Finding]:
    """Find addresses of a client whose joins leave by another device than the address is on.

    Counters and sockets of such a join look perfect: only the device's counters or a capture show it.
    """
    for leg in reading.legs:
        for pair in _pairs(leg):
            way = find_way(leg.client, pair.client, pair.server)
            device = leg.client.device_of(pair.client)
            endpoint = leg.client.endpoint(pair.client)
            if way is None or way.error or not device or way.device in {device, "lo", ""}:
                continue
            if endpoint is None or pair.is_first:
                continue
            fix = give_table(leg.client, pair.client, device)
            if not endpoint.device:
                fix += f" && {set_endpoint(endpoint, endpoint.flags, device)}"
            yield Finding(
                rule="source-leaves-elsewhere",
                severity=Severity.WARNING,
                host=leg.client.name,
                what=f"Packets from {pair.client} leave {leg.client.name} by {way.device}, "
                f"the address is on {device}.",
                why="Both subflows share one path, though counters and sockets look as if there were two.",
                fix=fix,
                persistent=keep_command(f"mptcp-route-{pair.client}", fix),
                evidence=(
                    f"ip route get {describe_lookup(way)}: dev {way.device}",
                    f"ip address: {pair.client} is on {device}",
                ),
                follows_from=("rule-to-empty-table", "endpoint-on-wrong-device", "endpoint-device-down"),
            )


def find_taken_for_neighbour(reading: PairReading) -> Iterable[Finding]:
    """Find addresses of a client from which its kernel looks for the server on a segment, not its gateway."""
    for leg in reading.legs:
        for source, ways in _ways_past_the_gateway(leg).items():
            device = leg.client.device_of(source)
            fix = give_table(leg.client, source, device)
            yield Finding(
                rule="taken-for-neighbour",
                severity=Severity.WARNING,
                host=leg.client.name,
                what=f"From {source}, {leg.client.name} looks for {ways[0].destination} on the segment of "
                f"{device}, where it is not.",
                why=f"No rule leads packets from {source} to its gateway: the kernel asks the segment.",
                fix=fix,
                persistent=keep_command(f"mptcp-route-{source}", fix),
                confidence=Confidence.LIKELY,
                evidence=tuple(f"ip route get {describe_lookup(way)}: no gateway" for way in ways),
                follows_from=("rule-to-empty-table", "endpoint-device-down"),
            )


def _ways_past_the_gateway(leg: Leg) -> dict[str, list[Lookup]]:
    """Return the ways of missing subflows, by source, that lead to a segment instead of its gateway."""
    found: dict[str, list[Lookup]] = {}
    for pair in _pairs(leg):
        way = find_way(leg.client, pair.client, pair.server)
        if pair.state == ESTABLISHED or way is None or way.error or way.gateway or way.device == "lo":
            continue
        device = leg.client.device_of(pair.client)
        has_gateway = bool(gateways_of(leg.client, device, 6 if ":" in pair.client else 4))
        # With a rule and no route in its table, the address is one that this path does not lead to.
        if is_proper(leg.client, way) or way.device != device or has_rule(leg.client, pair.client):
            continue
        if pair.is_expected or has_gateway:
            found.setdefault(pair.client, []).append(way)
    return found


RULES = (
    Rule(
        "rule-to-empty-table",
        "a routing rule of an address names a table without routes",
        find_empty_table,
        "add the routes of the table",
    ),
    Rule(
        "no-route-for-source",
        "`ip route get SERVER from ADDRESS oif DEVICE` fails for one of the client's addresses",
        find_no_route,
        "a table for each source address: `ip route`, `ip rule add from ADDRESS`",
    ),
    Rule(
        "source-leaves-elsewhere",
        "joins leave by another NIC though all counters look right: endpoint without `dev`, no rule",
        find_leaves_elsewhere,
        "give the endpoint its `dev`, and each source address a rule",
    ),
    Rule(
        "taken-for-neighbour",
        "a device has a gateway, and no `ip rule` leads packets from its address there",
        find_taken_for_neighbour,
        "`ip rule add from ADDRESS lookup TABLE`",
    ),
)
