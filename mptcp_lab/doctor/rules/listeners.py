"""The port's listening socket is not there, is plain TCP, or does not take joins."""

from __future__ import annotations

from collections.abc import Iterable

from mptcp_lab.doctor.finding import Confidence, Finding, Rule, Severity
from mptcp_lab.doctor.host_reading import HostReading
from mptcp_lab.doctor.readings import PairReading
from mptcp_lab.doctor.rules._causes import PROGRAMS, SWITCHES
from mptcp_lab.doctor.rules._common import (
    announce_with_port,
    announced_endpoints,
    family_of,
    is_complete,
    keep_announced,
    legs_with_server,
    missing_pairs,
)
from mptcp_lab.doctor.rules._wrapper import let_listen
from mptcp_lab.doctor.service_reading import Listener, Process
from mptcp_lab.doctor.unreadable import Unreadable

ANY_IPV4 = "0.0.0.0"  # noqa: S104 (compared only)
ANY = frozenset({ANY_IPV4, "::", "*"})


def covers(listener: Listener, address: str) -> bool:
    """Return whether a listener takes connections to an address."""
    if listener.address == "*" or listener.address == "::":
        return family_of(address) == 6 or not listener.is_ipv6_only
    return listener.address == address or (listener.address == ANY_IPV4 and family_of(address) == 4)


def process_of(host: HostReading, listener: Listener) -> Process:
    """Return the process of a listener; one without a name where it was not seen."""
    return host.process(listener.pid) or Process(listener.pid, "")


def own_listeners(host: HostReading, port: int) -> tuple[Listener, ...]:
    """Return the port's listeners that a program opened; the kernel's own for endpoints have no process."""
    found = host.listeners_on(port)
    return tuple(each for each in found if each.pid) or found


def find_no_listener(reading: PairReading) -> Iterable[Finding]:
    """Find servers on which nothing listens on the port."""
    for leg, server in legs_with_server(reading):
        if isinstance(server.listeners, Unreadable) or server.listeners_on(leg.port):
            continue
        if not server.listeners and leg.connection is None:
            continue  # nothing was read at all
        if leg.connection is not None and leg.connection.is_connected:
            continue
        yield Finding(
            rule="no-listener",
            severity=Severity.ERROR,
            host=server.name,
            what=f"Nothing listens on port {leg.port} of {server.name}.",
            why="No connection can be made, with MPTCP or without.",
            fix=f"ss -ltnp 'sport = :{leg.port}'",
            evidence=(f"ss -ltn on {server.name}: no socket of port {leg.port}",),
        )


def find_tcp_listener(reading: PairReading) -> Iterable[Finding]:
    """Find services that listen with plain TCP."""
    for leg, server in legs_with_server(reading):
        found = own_listeners(server, leg.port)
        address = leg.connection.server_address if leg.connection is not None else ""
        meant = [each for each in found if not address or covers(each, address)] or list(found)
        if not meant or any(each.protocol == "mptcp" for each in meant):
            continue
        process = process_of(server, meant[0])
        fix, persistent = let_listen(server, process, leg.port)
        yield Finding(
            rule="tcp-listener",
            severity=Severity.ERROR,
            host=server.name,
            what=f"{process.name or 'The service'} listens on port {leg.port} of {server.name} "
            "with plain TCP.",
            why="A program has MPTCP only where it asks for it, so every connection to it falls back to TCP.",
            fix=fix,
            persistent=persistent,
            evidence=(f"ss -ltnp: {meant[0].address}:{leg.port} is TCP, pid {meant[0].pid}",),
            follows_from=(*SWITCHES, *PROGRAMS),
        )


def find_closed_listener(reading: PairReading) -> Iterable[Finding]:
    """Find services that close their listening socket once they have accepted a connection."""
    for leg, server in legs_with_server(reading):
        connection = leg.connection
        if connection is None or connection.listener_after is not False:
            continue
        yield Finding(
            rule="listener-closed-after-accept",
            severity=Severity.WARNING,
            host=server.name,
            what=f"The service on port {leg.port} of {server.name} closes its listener after it "
            "has accepted.",
            why="Linux needs a listening socket to take a join, so later subflows are refused.",
            fix=announce_with_port([connection.server_address], leg.port),
            persistent=keep_announced([connection.server_address], leg.port),
            evidence=(f"no listener of port {leg.port} while the connection was open",),
        )


def find_single_address(reading: PairReading) -> Iterable[Finding]:
    """Find MPTCP listeners that do not cover the addresses which their host announces."""
    for leg, server in legs_with_server(reading):
        found = [each for each in server.listeners_on(leg.port) if each.protocol == "mptcp"]
        if not found or is_complete(leg) or any(each.address in ANY for each in found):
            continue
        first = leg.connection.server_address if leg.connection is not None else ""
        asked = [each.address for each in announced_endpoints(server) if not each.port]
        bare = [each for each in asked if each != first and not any(covers(one, each) for one in found)]
        if leg.connection is not None and leg.connection.pairs:
            bare = [each for each in bare if any(pair.server == each for pair in missing_pairs(leg))]
        if bare:
            process = process_of(server, found[0])
            yield Finding(
                rule="single-address-listener",
                severity=Severity.WARNING,
                host=server.name,
                what=f"{process.name or 'The service'} on {server.name} listens on "
                f"{found[0].address} only, and "
                f"{', '.join(bare)} is announced.",
                why="A join to an address without a listening socket is refused.",
                fix=announce_with_port(bare, leg.port),
                persistent=keep_announced(bare, leg.port),
                evidence=(f"ss -ltn: {', '.join(f'{each.address}:{each.port}' for each in found)}",),
            )


def find_full_queue(reading: PairReading) -> Iterable[Finding]:
    """Find services that do not accept connections as fast as they come."""
    for leg, server in legs_with_server(reading):
        for each in server.listeners_on(leg.port):
            if each.queue > each.backlog:
                process = process_of(server, each)
                yield Finding(
                    rule="accept-queue-full",
                    severity=Severity.ERROR,
                    host=server.name,
                    what=f"{process.name or 'The service'} on {server.name} does not accept its connections.",
                    why="Its queue is full, so the kernel drops further connections and joins.",
                    fix=f"systemctl restart {process.unit or 'SERVICE'}",
                    persistent="echo net.core.somaxconn=4096 >> /etc/sysctl.d/90-mptcp.conf",
                    confidence=Confidence.LIKELY,
                    evidence=(f"{each.queue} connections wait, the backlog is {each.backlog}",),
                )


RULES = (
    Rule(
        "no-listener",
        "nothing listens on the port",
        find_no_listener,
        "start the service",
    ),
    Rule(
        "tcp-listener",
        "`ss -ltM` lacks the port: the service listens with plain TCP",
        find_tcp_listener,
        "nginx `listen … multipath`, HAProxy `bind mptcp@…`, `GODEBUG=multipathtcp=1`, else the wrapper",
    ),
    Rule(
        "listener-closed-after-accept",
        "the listening socket is gone while a connection is open: joins are refused",
        find_closed_listener,
        "keep it open, or announce an address with a port",
    ),
    Rule(
        "single-address-listener",
        "the listener is bound to one address, and the server announces others",
        find_single_address,
        "listen on all addresses, or announce with a port",
    ),
    Rule(
        "accept-queue-full",
        "`ss -ltn` shows more waiting connections (Recv-Q) than the backlog (Send-Q)",
        find_full_queue,
        "look at the service; raise its backlog and `net.core.somaxconn`",
    ),
)
