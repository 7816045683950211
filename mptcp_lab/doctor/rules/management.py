"""The first address takes no joins, other paths are backups, or connections are older than an endpoint."""

from __future__ import annotations

from collections.abc import Iterable

from mptcp_lab.doctor.connection_reading import ESTABLISHED
from mptcp_lab.doctor.finding import Confidence, Finding, Rule, Severity
from mptcp_lab.doctor.readings import PairReading
from mptcp_lab.doctor.rules._common import (
    announced_endpoints,
    count_joined,
    joining_endpoints,
    keep_command,
    keep_sysctl,
    legs_with_server,
    missing_pairs,
    set_endpoint,
    set_sysctl,
)
from mptcp_lab.doctor.unreadable import read_or

FIRST_ADDRESS = "net.mptcp.allow_join_initial_addr_port"


def find_closed_first_address(reading: PairReading) -> Iterable[Finding]:
    """Find servers that forbid joins to their first address, where subflows to it are missing."""
    for leg, server in legs_with_server(reading):
        if server.sysctl(FIRST_ADDRESS) != "0":
            continue
        first = leg.connection.server_address if leg.connection is not None else ""
        others = [each.address for each in announced_endpoints(server) if each.address != first]
        yield Finding(
            rule="first-address-closed",
            severity=Severity.NOTE if count_joined(leg) else Severity.WARNING,
            host=server.name,
            what=f"{server.name} forbids joins to the address that the client connects to (C flag).",
            why="It is meant for servers behind a load balancer; clients then join announced addresses only.",
            fix=set_sysctl(FIRST_ADDRESS, 1),
            persistent=keep_sysctl(FIRST_ADDRESS, 1),
            evidence=(
                f"{FIRST_ADDRESS} = 0",
                f"other addresses that it announces: {', '.join(others) or 'none'}",
            ),
        )


def find_backups_only(reading: PairReading) -> Iterable[Finding]:
    """Find clients or servers all of whose further paths are backups."""
    for leg in reading.legs:
        first = leg.connection.client_address if leg.connection is not None else ""
        others = [each for each in joining_endpoints(leg.client) if each.address != first]
        if others and all("backup" in each.flags for each in others):
            fix = " && ".join(set_endpoint(each, each.flags - {"backup"}) for each in others)
            yield Finding(
                rule="only-backup-paths",
                severity=Severity.WARNING,
                host=leg.client.name,
                what=f"Every further path of {leg.client.name} is a backup.",
                why="Backups carry no data while another subflow works, so one path carries everything.",
                fix=fix,
                persistent=keep_command("mptcp-endpoints", fix),
                evidence=tuple(f"{each.address} {' '.join(sorted(each.flags))}" for each in others),
            )


def find_older_connections(reading: PairReading) -> Iterable[Finding]:
    """Find connections of other programs that lack a path which a new connection gets."""
    for leg in reading.legs:
        connection = leg.connection
        if connection is None or missing_pairs(leg):
            continue
        used = {each.client for each in connection.pairs if each.state == ESTABLISHED and each.is_expected}
        for each in read_or(leg.client.connections, ()):
            own = {local for local, _ in each.subflows}
            lacking = sorted(used - own)
            if each.protocol != "mptcp" or each.has_fallen_back:
                continue
            if each.remote_port != leg.port or not own or not lacking:
                continue
            endpoint = next((e for e in joining_endpoints(leg.client) if e.address == lacking[0]), None)
            fix = set_endpoint(endpoint, endpoint.flags) if endpoint is not None else "ss -tnM"
            yield Finding(
                rule="connection-lacks-path",
                severity=Severity.WARNING,
                host=leg.client.name,
                what=f"The connection {each.local}:{each.local_port} of {leg.client.name} has no subflow "
                f"from {', '.join(lacking)}.",
                why="A subflow that closed is not opened again; new connections have it. On "
                "Linux 6.18 an endpoint "
                "that is added again with its old id does not help either: give it another id.",
                fix=fix,
                confidence=Confidence.LIKELY,
                evidence=(f"its subflows: {', '.join(f'{a} > {b}' for a, b in each.subflows)}",),
            )


RULES = (
    Rule(
        "first-address-closed",
        f"`{FIRST_ADDRESS}` is 0 on the server (C flag): no join to its first address",
        find_closed_first_address,
        f"`{set_sysctl(FIRST_ADDRESS, 1)}`, or announce more addresses",
    ),
    Rule(
        "only-backup-paths",
        "all endpoints but the first one have `backup`",
        find_backups_only,
        "`ip mptcp endpoint change id ID nobackup`",
    ),
    Rule(
        "connection-lacks-path",
        "an old connection lacks a subflow that a new one gets: it is older than the endpoint, or lost it",
        find_older_connections,
        "delete the endpoint and add it (on Linux 6.18 with another id), or connect again",
    ),
)
