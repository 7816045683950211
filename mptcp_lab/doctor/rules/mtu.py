"""Packets of full size do not fit through one of the paths."""

from __future__ import annotations

from collections.abc import Iterable

from mptcp_lab.doctor.connection_reading import Pair
from mptcp_lab.doctor.finding import Confidence, Finding, Rule, Severity
from mptcp_lab.doctor.readings import PairReading
from mptcp_lab.doctor.rules._common import keep_sysctl, legs_with_server, set_sysctl, share_subnet
from mptcp_lab.doctor.unreadable import read_or

PROBING = "net.ipv4.tcp_mtu_probing"


def find_different_ends(reading: PairReading) -> Iterable[Finding]:
    """Find segments whose two ends have different MTUs."""
    for leg, server in legs_with_server(reading):
        pairs = leg.connection.pairs if leg.connection is not None else ()
        seen: set[tuple[str, str]] = set()
        for pair in pairs:
            here = leg.client.link(leg.client.device_of(pair.client))
            there = server.link(server.device_of(pair.server))
            held = [a for a in read_or(leg.client.addresses, ()) if a.address == pair.client]
            is_near = bool(held) and share_subnet(held[0], pair.server)
            if here is None or there is None or not is_near or here.mtu == there.mtu:
                continue
            if (here.name, there.name) in seen:
                continue
            seen.add((here.name, there.name))
            host, small, large = (leg.client, here, there) if here.mtu < there.mtu else (server, there, here)
            yield Finding(
                rule="mtu-differs",
                severity=Severity.WARNING,
                host=host.name,
                what=f"The MTU of {small.name} on {host.name} is {small.mtu}, the other end of "
                f"the segment has {large.mtu}.",
                why="Packets of full size from the other end are lost, so the path stalls as "
                "soon as data flows.",
                fix=f"ip link set {small.name} mtu {large.mtu}",
                persistent=f"printf '[Match]\\nName={small.name}\\n[Link]\\nMTUBytes={large.mtu}\\n'"
                f" > /etc/systemd/network/10-{small.name}.link",
                evidence=(
                    f"{leg.client.name} {here.name} mtu {here.mtu}",
                    f"{server.name} {there.name} mtu {there.mtu}",
                ),
            )


def find_small_path(reading: PairReading) -> Iterable[Finding]:
    """Find paths that swallow packets of their devices' size."""
    for leg in reading.legs:
        if leg.connection is None:
            continue
        for pair in leg.connection.pairs:
            size = leg.connection.swallowed.get(f"{pair.client} {pair.server}", 0)
            if size and leg.client.sysctl(PROBING) not in {"1", "2"}:
                yield _finding(leg.client.name, pair, size)


def _finding(host: str, pair: Pair, size: int) -> Finding:
    return Finding(
        rule="path-mtu-smaller",
        severity=Severity.WARNING,
        host=host,
        what=f"Packets of {size} octets vanish between {pair.client} and {pair.server}, small ones pass.",
        why="A link of the path has a smaller MTU, and no ICMP message says so: the path stalls with data.",
        fix=set_sysctl(PROBING, 1),
        persistent=keep_sysctl(PROBING, 1),
        confidence=Confidence.LIKELY,
        evidence=(f"datagrams from {pair.client}: small ones are answered, those of {size} octets are not",),
        follows_from=("mtu-differs",),
    )


RULES = (
    Rule(
        "mtu-differs",
        "the MTU of a segment differs at its two ends",
        find_different_ends,
        "`ip link set DEVICE mtu …`: the same at both ends",
    ),
    Rule(
        "path-mtu-smaller",
        "large packets with DF do not pass one path, and no ICMP comes back",
        find_small_path,
        f"`{set_sysctl(PROBING, 1)}` at both ends, or let ICMP `packet too big` through",
    ),
)
