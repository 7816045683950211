"""The next hop of a path does not answer, or the server's answers leave by another device."""

from __future__ import annotations

from collections.abc import Iterable

from mptcp_lab.doctor.connection_reading import ESTABLISHED
from mptcp_lab.doctor.expect import is_proper
from mptcp_lab.doctor.finding import Confidence, Finding, Rule, Severity
from mptcp_lab.doctor.readings import PairReading
from mptcp_lab.doctor.rules._common import keep_command, legs_with_server, missing_pairs
from mptcp_lab.doctor.rules._ways import describe_lookup, find_way, give_table
from mptcp_lab.doctor.unreadable import read_or

SILENT = frozenset({"FAILED", "INCOMPLETE"})


def find_silent_next_hop(reading: PairReading) -> Iterable[Finding]:
    """Find next hops of missing subflows that do not answer ARP or neighbour discovery."""
    for leg in reading.legs:
        for pair in missing_pairs(leg):
            way = find_way(leg.client, pair.client, pair.server)
            if way is None or way.error:
                continue
            hop = (way.gateway or pair.server, way.device)
            near = read_or(leg.client.neighbours, ())
            states = {each.state for each in near if (each.address, each.device) == hop}
            if not states & SILENT:
                continue
            yield Finding(
                rule="next-hop-silent",
                severity=Severity.WARNING,
                host=leg.client.name,
                what=f"{hop[0]} does not answer on the segment of {hop[1]} of {leg.client.name}.",
                why="Joins over this device do not even reach their first hop.",
                fix=f"ping -c 3 -I {hop[1]} {hop[0]}",
                confidence=Confidence.LIKELY,
                evidence=(f"ip neigh: {hop[0]} dev {hop[1]} {', '.join(sorted(states))}",),
                follows_from=(
                    *("taken-for-neighbour", "endpoint-device-down", "source-leaves-elsewhere"),
                    *("endpoint-address-missing", "duplicate-address", "mtu-differs"),
                ),
            )


def find_asymmetric_return(reading: PairReading) -> Iterable[Finding]:
    """Find servers that answer joins to an address by another device than the address is on."""
    for leg, server in legs_with_server(reading):
        every = leg.connection.pairs if leg.connection is not None else ()
        # To an address that the client cannot reach, no answer is due.
        pairs = [
            each for each in every if is_proper(leg.client, find_way(leg.client, each.client, each.server))
        ]
        working = {each.server for each in pairs if each.state == ESTABLISHED}
        lacking = {each.server for each in missing_pairs(leg)}
        for address in dict.fromkeys(each.server for each in pairs):
            clients = [each.client for each in pairs if each.server == address]
            ways = [way for each in clients if (way := server.lookup(address, each)) is not None]
            device = server.device_of(address)
            elsewhere = [each for each in ways if not each.error and each.device not in {device, "lo", ""}]
            lost = [each for each in ways if each.error]
            is_cut_off = bool(lost) and not any(is_proper(server, each) for each in ways)
            if not device or not (elsewhere or (is_cut_off and address not in working)):
                continue
            shown = (elsewhere or lost)[0]
            does = f"answers for {address} by {shown.device}" if elsewhere else f"has no route from {address}"
            fix = give_table(server, address, device)
            yield Finding(
                rule="asymmetric-return",
                severity=Severity.WARNING if is_cut_off or address in lacking else Severity.NOTE,
                host=server.name,
                what=f"{server.name} {does}, the address is on {device}.",
                why="Firewalls and strict rp_filter on the way drop what comes back by another path.",
                fix=fix,
                persistent=keep_command(f"mptcp-route-{address}", fix),
                confidence=Confidence.LIKELY,
                evidence=(f"ip route get {describe_lookup(shown)}: {shown.error or f'dev {shown.device}'}",),
                follows_from=(
                    *("rule-to-empty-table", "endpoint-address-missing", "endpoint-device-down"),
                    "strict-reverse-path",
                ),
            )


RULES = (
    Rule(
        "next-hop-silent",
        "`ip neigh` has the next hop of a path as FAILED",
        find_silent_next_hop,
        "look at the cable, the VLAN and the gateway",
    ),
    Rule(
        "asymmetric-return",
        "the server answers a join by another NIC than it came in by",
        find_asymmetric_return,
        "a routing rule for each of the server's addresses",
    ),
)
