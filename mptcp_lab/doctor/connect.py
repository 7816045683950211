"""Open the doctor's own connection between two hosts, and read what both ends saw of it."""

from __future__ import annotations

import base64
import errno
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from mptcp_lab.doctor.connection_reading import (
    ESTABLISHED,
    PENDING,
    REFUSED,
    Attempt,
    CaptureSummary,
    ConnectionReading,
    Pair,
)
from mptcp_lab.doctor.expect import UNLIMITED, expected_pairs, settle
from mptcp_lab.doctor.summary import Ends, initial_numbers, summarise
from mptcp_lab.doctor.unreadable import Unreadable, read_or
from mptcp_lab.doctor.watch import End, Watching, stop_watching, watch_ends
from mptcp_lab.errors import LabError
from mptcp_lab.patience import patient
from mptcp_lab.probe.facts import Counters, SocketFacts
from mptcp_lab.probe.streams import ConnectFailed, Stream

CONNECT_TIMEOUT_S = 4.0  # longer than a kernel's suspicion of a black hole, which falls back after 3 s
JOIN_TIMEOUT_S = 1.6
#: The client's subflow is established when its third packet leaves; on a busy machine it arrives later.
THIRD_TIMEOUT_S = 0.5
POLL_S = 0.05
STATE_ESTABLISHED = 1
#: The server's count of accepted third packets of joins (net/mptcp/mib.c).
THIRD_PACKETS = "MPJoinAckRx"
#: A keepalive makes a silent peer acknowledge, which completes the handshake; it has no payload.
KEEPALIVE_IDLE_S = 1


def connect(client: End, server: End | None, address: str, port: int, source: str = "") -> ConnectionReading:
    """Make the connection from client to server, and return what both ends saw of it.

    ``source`` is the client's address; "" leaves it to the kernel.
    """
    ports = sorted({port, *_announced_ports(server)})
    with watch_ends(client, server, ports) as (mine, theirs, pool):
        before = [_counters(end) for end in (client, server)]
        sent_before = _sent_octets(client)
        attempt, stream, facts, pairs = _try(client, server, (source, address, port))
        _await_third_packets(server, before[1], facts)
        listens = None if server is None or stream is None else server.probe.listens(port)
        list(pool.map(stop_watching, (mine, theirs)))
        after = [_counters(end) for end in (client, server)]
        sent = {name: count - sent_before.get(name, 0) for name, count in _sent_octets(client).items()}
        events = [each.events.all() if each.events else None for each in (mine, theirs)]
        if stream is not None:
            with suppress(LabError):
                stream.close()
    attempts = [attempt]
    if attempt.error:
        attempts.append(_try_tcp(client, (source, address, port)))
    ends = _ends(facts, address, port)
    mine_seen = _summary(mine, ends, frozenset())
    theirs_seen = _summary(theirs, ends, initial_numbers(mine.found, ends))
    moved = [_subtract(one, other) for one, other in zip(before, after, strict=True)]
    settled = settle(pairs, _states(facts, mine_seen, theirs_seen), _room(client, server))
    return ConnectionReading(
        port=port,
        client_address=ends.client,
        server_address=address,
        attempts=tuple(attempts),
        info=None if facts is None else facts.info,
        subflows=sum(each.state == ESTABLISHED for each in settled),
        expected=sum(each.is_expected for each in settled),
        pairs=settled,
        client_counters=moved[0],
        server_counters=moved[1],
        client_capture=mine_seen,
        server_capture=theirs_seen,
        client_nic_bytes=sent,
        listener_after=listens,
        client_events=Unreadable("needs root") if events[0] is None else events[0],
        server_events=Unreadable("needs root") if events[1] is None else events[1],
        client_pcapng=base64.b64encode(mine.pcapng).decode(),
        server_pcapng=base64.b64encode(theirs.pcapng).decode(),
    )


def _announced_ports(server: End | None) -> set[int]:
    held = () if server is None else read_or(server.reading.endpoints, ())
    return {each.port for each in held if each.port}


def _counters(end: End | None) -> Counters:
    return Counters({}) if end is None else end.probe.counters()


def _sent_octets(end: End) -> dict[str, int]:
    return {name: each.tx_bytes for name, each in end.probe.nics().items()}


def _subtract(before: Counters, after: Counters) -> Mapping[str, Mapping[str, int]]:
    """Return the counters that moved, by group."""
    groups = after.delta(before).groups
    moved = {group: {k: v for k, v in values.items() if v} for group, values in groups.items()}
    return {group: values for group, values in moved.items() if values}


def _room(client: End, server: End | None) -> int:
    limits = [read_or(end.reading.limits, UNLIMITED) for end in (client, server) if end is not None]
    return min(each.subflows for each in limits)


Tried = tuple[Attempt, Stream | None, SocketFacts | None, list[Pair]]


def _try(client: End, server: End | None, way: tuple[str, str, int]) -> Tried:
    """Connect with MPTCP and wait for the joins; return the connection still open, for its reading."""
    source, address, port = way
    try:
        began = time.monotonic()
        stream = client.probe.connect(address, port, "mptcp", source or None, within=CONNECT_TIMEOUT_S)
    except ConnectFailed as error:
        name = errno.errorcode.get(error.errno or 0, "ETIMEDOUT")
        return Attempt(source, address, "mptcp", error.seconds, name), None, None, []
    seconds = time.monotonic() - began
    for level, option, value in (
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S),
    ):
        with suppress(LabError):  # older kernels refuse them on MPTCP sockets
            stream.setsockopt(level, option, value)
    facts = stream.facts()
    local = facts.local.address if facts.local else ""
    other = None if server is None else server.reading
    pairs = expected_pairs(client.reading, other, (local, address))
    if server is None:
        pairs = pairs[:1]  # what the server announces and accepts is not known
    is_mptcp = _is_mptcp(facts)
    if is_mptcp:
        facts = _await_joins(stream, pairs)
    attempt = Attempt(
        source, address, "mptcp", seconds, is_mptcp=_is_mptcp(facts), has_closed=_is_closed(facts)
    )
    return attempt, stream, facts, pairs if is_mptcp else pairs[:1]


def _await_joins(stream: Stream, pairs: Sequence[Pair]) -> SocketFacts:
    """Wait until every expected pair has a subflow, at most `JOIN_TIMEOUT_S`."""
    wanted = {(pair.client, pair.server) for pair in pairs if pair.is_expected}
    end = time.monotonic() + patient(JOIN_TIMEOUT_S)
    while True:
        facts = stream.facts()
        if wanted <= _established_pairs(facts) or not _is_mptcp(facts) or time.monotonic() >= end:
            return facts
        time.sleep(POLL_S)  # a condition of another host, asked for until the deadline


def _await_third_packets(server: End | None, before: Counters, facts: SocketFacts | None) -> None:
    """Wait until the server has counted the third packet of each established join, at most `THIRD_TIMEOUT_S`.

    Otherwise its capture could end before such a packet, which then looks lost.
    """
    joins = 0 if facts is None else len(_established_pairs(facts)) - 1
    if server is None or joins < 1 or not before.has(THIRD_PACKETS):
        return
    wanted = before.mptcp(THIRD_PACKETS) + joins
    end = time.monotonic() + patient(THIRD_TIMEOUT_S)
    while server.probe.counters().mptcp(THIRD_PACKETS) < wanted and time.monotonic() < end:
        time.sleep(POLL_S)  # a condition of another host, asked for until the deadline


def _is_mptcp(facts: SocketFacts) -> bool | None:
    value: Any = facts.is_mptcp
    return value if isinstance(value, bool) else None


def _is_closed(facts: SocketFacts) -> bool:
    return facts.peer is None


def _subflows(facts: SocketFacts | None) -> dict[tuple[str, str], str]:
    """Return the pairs of the client's subflows with their states."""
    found: Any = facts.subflows if facts is not None else ()
    if not isinstance(found, tuple):
        return {}
    known = [(each, each.tcp.get("state", STATE_ESTABLISHED)) for each in found]
    return {
        (each.local, each.remote): ESTABLISHED if state == STATE_ESTABLISHED else PENDING
        for each, state in known
    }


def _established_pairs(facts: SocketFacts) -> set[tuple[str, str]]:
    return {pair for pair, state in _subflows(facts).items() if state == ESTABLISHED}


def _states(
    facts: SocketFacts | None, mine: Unreadable | CaptureSummary, theirs: Unreadable | CaptureSummary
) -> dict[tuple[str, str], str]:
    """Return each pair's state: the client's sockets, corrected by what was captured."""
    states = _subflows(facts)
    for join in () if isinstance(mine, Unreadable) else mine.joins:
        pair = (join.client, join.server)
        states.setdefault(pair, REFUSED if join.resets else PENDING)
    for join in () if isinstance(theirs, Unreadable) else theirs.joins:
        pair = (join.client, join.server)
        if states.get(pair) == ESTABLISHED and join.ack_option is None:
            states[pair] = PENDING  # the third packet has not arrived
    return states


def _ends(facts: SocketFacts | None, address: str, port: int) -> Ends:
    local = facts.local if facts is not None else None
    return Ends(local.address if local else "", local.port if local else 0, address, port)


def _summary(seen: Watching, ends: Ends, numbers: frozenset[int]) -> Unreadable | CaptureSummary:
    if seen.refused or not seen.found:
        return Unreadable(seen.refused or "no device could be captured")
    return summarise(seen.found, ends, seen.dropped, numbers)


def _try_tcp(client: End, way: tuple[str, str, int]) -> Attempt:
    """Connect with plain TCP, which shows whether the service can be reached at all."""
    source, address, port = way
    try:
        began = time.monotonic()
        client.probe.connect(address, port, "tcp", source or None, within=CONNECT_TIMEOUT_S).close()
    except ConnectFailed as error:
        name = errno.errorcode.get(error.errno or 0, "ETIMEDOUT")
        return Attempt(source, address, "tcp", error.seconds, name)
    return Attempt(source, address, "tcp", time.monotonic() - began, is_mptcp=False)
