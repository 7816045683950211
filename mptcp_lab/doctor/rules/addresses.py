"""Addresses that two hosts have, that a host must not use yet, or that another rule hides."""

from __future__ import annotations

from collections.abc import Iterable

from mptcp_lab.doctor.finding import Confidence, Finding, Rule, Severity
from mptcp_lab.doctor.host_reading import HostReading
from mptcp_lab.doctor.readings import Leg, PairReading
from mptcp_lab.doctor.rules._common import endpoints, ends, legs_with_server, share_subnet
from mptcp_lab.doctor.unreadable import read_or

#: States of a neighbour table's entry that was confirmed lately, or is used now.
CURRENT = frozenset({"REACHABLE", "DELAY", "PROBE", "PERMANENT"})
FRAGILE = frozenset({"temporary", "deprecated"})


def find_same_address(reading: PairReading) -> Iterable[Finding]:
    """Find addresses that both ends have, where one has an endpoint for it or the connection used it."""
    for leg, server in legs_with_server(reading):
        held = {each.address: each for each in read_or(leg.client.addresses, ()) if each.scope == "global"}
        for each in read_or(server.addresses, ()):
            is_used = each.address in _list_used(leg)
            is_used |= any(host.endpoint(each.address) is not None for host in (leg.client, server))
            if each.address not in held or not is_used:
                continue
            yield Finding(
                rule="same-address-on-both-hosts",
                severity=Severity.ERROR,
                host=server.name,
                what=f"{leg.client.name} and {server.name} both have the address {each.address}.",
                why="Packets for it go to one of them, or never leave the host that sends them.",
                fix=f"ip address delete {each.address}/{each.prefix} dev {each.device}",
                evidence=(
                    f"{leg.client.name}: {each.address} on {held[each.address].device}",
                    f"{server.name}: {each.address} on {each.device}",
                ),
            )


def _list_used(leg: Leg) -> set[str]:
    pairs = leg.connection.pairs if leg.connection is not None else ()
    return {address for pair in pairs if pair.is_expected for address in (pair.client, pair.server)}


def find_duplicate(reading: PairReading) -> Iterable[Finding]:
    """Find addresses of a leg that another machine on the segment claims too."""
    for leg, host, is_client in ends(reading):
        peer = leg.server if is_client else leg.client
        for address, macs in host.duplicates.items():
            if address in _list_used(leg) or host.endpoint(address):
                yield _duplicate(host, address, f"it is claimed by {', '.join(macs)} too")
        if peer is None:
            continue
        own = {each.mac for each in read_or(peer.links, ()) if each.mac}
        near = read_or(host.addresses, ())
        for entry in read_or(host.neighbours, ()):
            is_near = any(share_subnet(a, entry.address) for a in near if a.device == entry.device)
            if entry.state not in CURRENT or not own or entry.mac in own:
                continue
            if entry.mac and is_near and peer.device_of(entry.address):
                yield _duplicate(
                    peer, entry.address, f"{host.name} has it at {entry.mac}, which is not {peer.name}'s"
                )


def _duplicate(host: HostReading, address: str, evidence: str) -> Finding:
    device = host.device_of(address)
    return Finding(
        rule="duplicate-address",
        severity=Severity.ERROR,
        host=host.name,
        what=f"Another machine on the segment of {device} has the address {address} of {host.name} too.",
        why="Packets for the address go now to one and now to the other, and joins are lost or refused.",
        fix=f"arping -D -c 2 -I {device} {address}",
        confidence=Confidence.LIKELY,
        evidence=(evidence,),
        follows_from=("same-address-on-both-hosts", "address-not-unique"),
    )


def find_failed_detection(reading: PairReading) -> Iterable[Finding]:
    """Find IPv6 addresses that the kernel does not use, because another host on the segment has them."""
    for _, host, _ in ends(reading):
        for each in read_or(host.addresses, ()):
            if "dadfailed" in each.flags:
                yield Finding(
                    rule="address-not-unique",
                    severity=Severity.ERROR,
                    host=host.name,
                    what=f"The kernel of {host.name} does not use {each.address}: another host has it.",
                    why="Duplicate address detection failed when the address was set, and its path is lost.",
                    fix=f"ip address delete {each.address}/{each.prefix} dev {each.device}",
                    evidence=(
                        f"ip address: {each.address} dev {each.device} {' '.join(sorted(each.flags))}",
                    ),
                    follows_from=("same-address-on-both-hosts",),
                )


def find_fragile_endpoint(reading: PairReading) -> Iterable[Finding]:
    """Find endpoints for addresses that the kernel will give up."""
    for _, host, _ in ends(reading):
        used = {each.address for each in endpoints(host)}
        for each in read_or(host.addresses, ()):
            if each.address in used and each.flags & FRAGILE:
                yield Finding(
                    rule="endpoint-for-temporary-address",
                    severity=Severity.NOTE,
                    host=host.name,
                    what=f"{host.name} has an endpoint for {each.address}, which will go away.",
                    why="The address is temporary or deprecated; with it the endpoint's subflows close.",
                    fix=f"ip mptcp endpoint delete id {_id(host, each.address)}",
                    persistent=f"echo net.ipv6.conf.{each.device}.use_tempaddr=0 >> "
                    "/etc/sysctl.d/90-mptcp.conf",
                    evidence=(f"ip address: {each.address} {' '.join(sorted(each.flags))}",),
                )


def _id(host: HostReading, address: str) -> int:
    return next(each.id for each in endpoints(host) if each.address == address)


RULES = (
    Rule(
        "same-address-on-both-hosts",
        "client and server have the same address",
        find_same_address,
        "give one another address",
    ),
    Rule(
        "duplicate-address",
        "the neighbour table has an address of a host at the MAC of another machine",
        find_duplicate,
        "`arping -D -I DEVICE ADDRESS`; find the other machine",
    ),
    Rule(
        "address-not-unique",
        "`ip address` shows `dadfailed` for an IPv6 address",
        find_failed_detection,
        "find the other host, and set the address again",
    ),
    Rule(
        "endpoint-for-temporary-address",
        "an endpoint's address is `temporary` or `deprecated`",
        find_fragile_endpoint,
        "an endpoint for a stable address",
    ),
)
