"""Derive the subflows that two hosts should have, from their endpoints, limits and routes. Pure.

This follows the kernel's path manager (net/mptcp/pm_kernel.c). The client joins the server's first address
from each of its other endpoints, and an announced address from each fullmesh endpoint, or else from the
address that its routes choose. A pair whose two hosts have no proper way to one another is listed, and not
expected. A way is proper if it leads to a gateway, or to an address on a network of the device.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

from mptcp_lab.doctor.connection_reading import ESTABLISHED, MISSING, Pair
from mptcp_lab.doctor.host_reading import HostReading
from mptcp_lab.doctor.network_reading import Lookup
from mptcp_lab.doctor.unreadable import read_or
from mptcp_lab.probe.facts import Endpoint, Limits

#: Subflows besides the first that the kernel allows, and addresses that it accepts (net/mptcp/protocol.h).
KERNEL_MAXIMUM = 8
NO_JOIN_SYSCTL = "net.mptcp.allow_join_initial_addr_port"
UNLIMITED = Limits(KERNEL_MAXIMUM, KERNEL_MAXIMUM)


def usable_addresses(host: HostReading) -> list[str]:
    """Return the global addresses of the host's devices that are up, IPv4 first."""
    found = [
        each
        for each in read_or(host.addresses, ())
        if each.scope == "global"
        and not each.flags & {"tentative", "dadfailed", "deprecated"}
        and (link := host.link(each.device)) is not None
        and link.is_up
    ]
    return [each.address for each in sorted(found, key=lambda each: each.family)]


def questions(host: HostReading, peer: HostReading) -> list[tuple[str, str, str]]:
    """Return the routes to ask a host for: each of its addresses to each of the peer's of the same family.

    Each is asked over any device, and over the device of the address, as an endpoint with ``dev`` is used.
    """
    asked = []
    for source in usable_addresses(host):
        for destination in usable_addresses(peer):
            if ip_address(source).version == ip_address(destination).version:
                asked += [(source, destination, ""), (source, destination, host.device_of(source))]
    return asked


def is_proper(host: HostReading, lookup: Lookup | None) -> bool:
    """Return whether a way leads to a gateway, or to an address on a network of its device."""
    if lookup is None or lookup.error or not lookup.device:
        return False
    if lookup.gateway:
        return True
    target = ip_address(lookup.destination)
    networks = [
        ip_interface(f"{each.address}/{each.prefix}").network
        for each in read_or(host.addresses, ())
        if each.device == lookup.device
    ]
    routed = [
        ip_network(each.destination)
        for each in read_or(host.routes, ())
        if each.device == lookup.device and "/" in each.destination and not each.gateway
    ]
    return any(target in network for network in [*networks, *routed] if network.version == target.version)


def why_unreachable(client: HostReading, server: HostReading | None, source: str, remote: str) -> str:
    """Return why two addresses cannot reach one another; "" if they can."""
    endpoint = client.endpoint(source)
    device = endpoint.device if endpoint else ""
    ways = [(client, client.lookup(source, remote, device))]
    if server is not None and server.device_of(remote):
        ways.append((server, server.lookup(remote, source)))
    for host, way in ways:
        if not is_proper(host, way):
            start, end = (source, remote) if host is client else (remote, source)
            shown = f": {way.error}" if way is not None and way.error else ""
            return f"no route from {start} to {end} on {host.name}{shown}"
    return ""


def expected_pairs(client: HostReading, server: HostReading | None, first: tuple[str, str]) -> list[Pair]:
    """Return all pairs that the path manager tries, the first subflow first, in the order of its attempts."""
    limits = read_or(client.limits, UNLIMITED)
    room = limits.subflows
    if server is not None:
        room = min(room, read_or(server.limits, UNLIMITED).subflows)
    found = [Pair(*first, MISSING, is_first=True)]
    for source, remote in dict.fromkeys(_joins(client, server, first, limits)):
        if (source, remote) == first:
            continue
        why = why_unreachable(client, server, source, remote)
        found.append(Pair(source, remote, MISSING, is_expected=not why, why=why))
    return _apply_limit(found, room)


def _apply_limit(pairs: list[Pair], room: int) -> list[Pair]:
    """Mark the pairs that exceed the limit as not expected."""
    kept, joins = [], 0
    for pair in pairs:
        joins += pair.is_expected and not pair.is_first
        if pair.is_expected and joins > room:
            kept.append(
                replace(pair, is_expected=False, why=f"the limit of {room} subflows besides the first")
            )
        else:
            kept.append(pair)
    return kept


def _joins(
    client: HostReading, server: HostReading | None, first: tuple[str, str], limits: Limits
) -> Iterator[tuple[str, str]]:
    """Yield the pairs that the path manager tries, the first announcement before all others."""
    is_version_4 = ip_address(first[0]).version == 4
    mine = [each for each in _with_flag(client, "subflow") if not is_version_4 or ":" not in each.address]
    theirs = [each for each in _with_flag(server, "signal") if not is_version_4 or ":" not in each.address]
    announced = [each.address for each in theirs if each.address != first[1] or each.port]
    groups = [_to_announced(client, mine, remote, first) for remote in announced[: limits.add_addr_accepted]]
    denies = server is not None and server.sysctl(NO_JOIN_SYSCTL) == "0"
    family = ip_address(first[1]).version
    same = [each.address for each in mine if ip_address(each.address).version == family]
    to_the_first = [] if denies else [(address, first[1]) for address in same if address != first[0]]
    for group in [*groups[:1], to_the_first, *groups[1:]]:
        yield from group


def _to_announced(
    client: HostReading, mine: Sequence[Endpoint], remote: str, first: tuple[str, str]
) -> list[tuple[str, str]]:
    """Return the pairs that an announced address makes."""
    family = ip_address(remote).version
    full = [each.address for each in mine if "fullmesh" in each.flags]
    same = [address for address in full if ip_address(address).version == family]
    if full:
        return [(address, remote) for address in same]
    # The kernel leaves the source to its routes, which prefer an address on the announced one's network.
    candidates = [each.address for each in mine if ip_address(each.address).version == family]
    candidates += [first[0], *usable_addresses(client)]
    ways = [(address, client.lookup(address, remote)) for address in dict.fromkeys(candidates)]
    direct = [
        (bool(way.gateway), address)
        for address, way in ways
        if way is not None and is_proper(client, way) and client.device_of(address) == way.device
    ]
    chosen = min(direct, key=lambda each: each[0], default=None)
    return [(chosen[1], remote)] if chosen else []


def _with_flag(host: HostReading | None, flag: str) -> list[Endpoint]:
    """Return a host's endpoints with a flag, in the order of their ids."""
    if host is None:
        return []
    found = [each for each in read_or(host.endpoints, ()) if flag in each.flags]
    return sorted(found, key=lambda each: each.id)


def settle(pairs: Sequence[Pair], states: Mapping[tuple[str, str], str], room: int) -> tuple[Pair, ...]:
    """Return the pairs with the states that were observed; those that nothing is known of are missing.

    Pairs that came up and were not derived are added. Where the connection has as many subflows as the limits
    allow, the others are not expected.
    """
    seen = {(pair.client, pair.server) for pair in pairs}
    extra = [Pair(*each, state, is_expected=False) for each, state in states.items() if each not in seen]
    found = [replace(pair, state=states.get((pair.client, pair.server), MISSING)) for pair in pairs]
    established = sum(each.state == ESTABLISHED for each in [*found, *extra])
    if established > room:
        full = f"the limit of {room} subflows besides the first"
        found = [
            replace(pair, is_expected=False, why=full)
            if pair.is_expected and pair.state != ESTABLISHED
            else pair
            for pair in found
        ]
    return (*found, *extra)
