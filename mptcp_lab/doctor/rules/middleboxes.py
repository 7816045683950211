"""A host between client and server changes, echoes or drops MPTCP's options in the first handshake."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from mptcp_lab.doctor.connection_reading import CaptureSummary, ConnectionReading
from mptcp_lab.doctor.finding import Confidence, Finding, Rule, Severity
from mptcp_lab.doctor.readings import Leg, PairReading
from mptcp_lab.doctor.rules._causes import LISTENERS, PACKET_FILTERS, SWITCHES
from mptcp_lab.doctor.rules._common import captures, keep_sysctl, legs_with_server, set_sysctl

CAUSES = (*SWITCHES, *LISTENERS, *PACKET_FILTERS)
ON_THE_WAY = "tcpdump -ni any 'tcp[tcpflags] & tcp-syn != 0'"
MIRROR = "options-mirrored"
#: What may come before a middlebox's finding, for those after which more than a mirror may.
EARLIER = {
    MIRROR: (),
    "fallback-after-handshake": (MIRROR, "third-packet-option-stripped", "answer-option-stripped"),
}
PAUSE = "net.mptcp.blackhole_timeout"


class Seen(NamedTuple):
    """A leg's connection with the captures of both ends."""

    leg: Leg
    connection: ConnectionReading
    client: CaptureSummary | None
    server: CaptureSummary | None


def _connections(reading: PairReading) -> Iterator[Seen]:
    for leg, _ in legs_with_server(reading):
        if leg.connection is not None:
            yield Seen(leg, leg.connection, *captures(leg.connection))


def _finding(
    rule: str, seen: Seen, what: str, why: str, *evidence: str, fix: str = ON_THE_WAY, persistent: str = ""
) -> Finding:
    return Finding(
        rule=rule,
        severity=Severity.ERROR,
        host=seen.leg.client.name,
        what=what,
        why=why,
        fix=fix,
        persistent=persistent,
        confidence=Confidence.CERTAIN if seen.client and seen.server else Confidence.LIKELY,
        evidence=evidence,
        follows_from=(*CAUSES, *EARLIER.get(rule, (MIRROR,))),
    )


def _way(leg: Leg) -> str:
    return f"between {leg.client.name} and {leg.server.name if leg.server is not None else 'the server'}"


def find_stripped_syn(reading: PairReading) -> Iterable[Finding]:
    """Find SYNs that left with MP_CAPABLE and arrived without."""
    for seen in _connections(reading):
        plain = seen.client.handshake.plain_syns if seen.client else 0
        # A client that falls back sends SYNs without the option itself.
        if seen.server and seen.server.handshake.syns and not plain and _is_lost(seen, "syn_option"):
            yield _finding(
                "syn-option-stripped",
                seen,
                f"Something {_way(seen.leg)} takes MPTCP's option out of SYNs.",
                "The server then takes the client for one without MPTCP, and the connection is plain TCP.",
                "captured at the client: SYN with MP_CAPABLE",
                "captured at the server: SYN without",
            )


def _is_lost(seen: Seen, name: str) -> bool:
    """Return whether a packet has its option in the client's capture and lacks it in the server's."""
    if seen.client is None or seen.server is None:
        return False
    return getattr(seen.client.handshake, name) is True and getattr(seen.server.handshake, name) is False


def find_stripped_answer(reading: PairReading) -> Iterable[Finding]:
    """Find SYN/ACKs that left with MP_CAPABLE and arrived without."""
    for seen in _connections(reading):
        if seen.client is None or seen.server is None:
            continue
        if seen.server.handshake.synack_option is True and seen.client.handshake.synack_option is False:
            yield _finding(
                "answer-option-stripped",
                seen,
                f"Something {_way(seen.leg)} takes MPTCP's option out of SYN/ACKs.",
                "The client then takes the server for one without MPTCP, and the connection is plain TCP.",
                "captured at the server: SYN/ACK with MP_CAPABLE",
                "captured at the client: SYN/ACK without",
            )


def find_mirror(reading: PairReading) -> Iterable[Finding]:
    """Find SYN/ACKs that carry the client's own option."""
    for seen in _connections(reading):
        if seen.client and seen.client.handshake.is_mirrored:
            yield _finding(
                "options-mirrored",
                seen,
                f"Something {_way(seen.leg)} echoes the client's own MPTCP option.",
                "The client talks to a proxy or load balancer without MPTCP that copies options "
                "it does not know.",
                "captured at the client: SYN/ACK with the option of the SYN",
            )


def find_dropped_syn(reading: PairReading) -> Iterable[Finding]:
    """Find paths on which SYNs with MP_CAPABLE vanish while those without arrive."""
    for seen in _connections(reading):
        dropped = seen.connection.client_counter("MPCapableSYNTXDrop")
        first, others = seen.connection.first, seen.connection.attempts[1:]
        failed = first is not None and first.error in {"ETIMEDOUT", "timeout"}
        failed &= any(each.protocol == "tcp" and not each.error for each in others)
        is_silent = any(each.protocol == "tcp" and each.error for each in others)
        if (dropped or failed) and not is_silent:
            arrived = seen.server.handshake.syns if seen.server else None
            yield _finding(
                "mptcp-syn-dropped",
                seen,
                f"Something {_way(seen.leg)} drops SYNs that carry MPTCP's option.",
                "Connecting takes seconds, ends as plain TCP, and MPTCP then stays off for a while.",
                f"MPCapableSYNTXDrop moved by {dropped}"
                if dropped
                else "only the attempt with plain TCP connected",
                *(("captured at the server: no SYN with the option",) if arrived == 0 else ()),
            )


def find_stripped_third(reading: PairReading) -> Iterable[Finding]:
    """Find third packets that left with MP_CAPABLE and arrived without."""
    for seen in _connections(reading):
        if _is_lost(seen, "ack_option"):
            yield _finding(
                "third-packet-option-stripped",
                seen,
                f"Something {_way(seen.leg)} takes MPTCP's option out of packets that are no SYN.",
                "The server never sees the client's key, and the connection is plain TCP.",
                "captured at the client: third packet with MP_CAPABLE",
                "captured at the server: third packet without",
            )


def find_late_fallback(reading: PairReading) -> Iterable[Finding]:
    """Find connections that began as MPTCP and fell back once data was sent."""
    for seen in _connections(reading):
        moved = {
            name: seen.connection.client_counter(name) + seen.connection.server_counter(name)
            for name in ("DssFallback", "DSSCorruptionFallback", "InfiniteMapRx", "MPCapableDataFallback")
        }
        found = [f"{name} moved by {count}" for name, count in moved.items() if count]
        answered = seen.client is not None and seen.client.handshake.synack_option is True
        answered &= seen.server is None or seen.server.handshake.synack_option is not False
        if seen.connection.is_mptcp is False and answered and (found or not _is_lost(seen, "ack_option")):
            yield _finding(
                "fallback-after-handshake",
                seen,
                f"The connection to {seen.connection.server_address} began as MPTCP and fell back to TCP.",
                "Something on the way changes the options or the payload of data packets.",
                *(found or ["the handshake had MP_CAPABLE, the socket has fallen back"]),
            )


def find_pause(reading: PairReading) -> Iterable[Finding]:
    """Find clients whose kernel has switched MPTCP off for a while after a black hole."""
    for leg in reading.legs:
        if leg.connection is None:
            continue
        seen = Seen(leg, leg.connection, *captures(leg.connection))
        disabled = seen.connection.client_counter("MPCapableSYNTXDisabled")
        seconds = seen.leg.client.sysctl(PAUSE) or "3600"
        if disabled:
            yield _finding(
                "blackhole-pause",
                seen,
                f"The kernel of {seen.leg.client.name} sends no MPTCP since it met a black hole.",
                f"It suspects a path that drops MPTCP's SYNs, and waits {seconds} s, each time longer.",
                f"MPCapableSYNTXDisabled moved by {disabled}",
                fix=set_sysctl(PAUSE, seconds),
                persistent=keep_sysctl(PAUSE, seconds),
            )


def find_plain_answer(reading: PairReading) -> Iterable[Finding]:
    """Find servers that answer a SYN with MP_CAPABLE by a SYN/ACK without, as far as was seen."""
    for seen in _connections(reading):
        handshake = seen.server.handshake if seen.server else None
        if handshake is not None and not (handshake.syn_option is True and handshake.synack_option is False):
            continue
        if seen.connection.is_mptcp is not False or seen.client is None:
            continue
        if seen.client.handshake.syn_option is True and seen.client.handshake.synack_option is False:
            yield _finding(
                "server-answers-without-mptcp",
                seen,
                f"The service at {seen.connection.server_address}:{seen.leg.port} answers without MPTCP.",
                "Either it listens with plain TCP, or something on the way takes the option out.",
                "captured at the client: SYN with MP_CAPABLE, SYN/ACK without",
                fix=f"ss -ltnM 'sport = :{seen.leg.port}'",
            )


RULES = (
    Rule(
        "syn-option-stripped",
        "a SYN leaves the client with MP_CAPABLE and comes to the server without",
        find_stripped_syn,
        "find the middlebox: capture on each hop",
    ),
    Rule(
        "answer-option-stripped",
        "a SYN/ACK leaves the server with MP_CAPABLE and comes to the client without",
        find_stripped_answer,
        "find the middlebox on the way back",
    ),
    Rule(
        "options-mirrored",
        "a SYN/ACK has the client's own key: something echoes unknown options",
        find_mirror,
        "find the proxy or load balancer that answers for the server",
    ),
    Rule(
        "mptcp-syn-dropped",
        "connecting takes seconds, or works with plain TCP only: SYNs with option 30 vanish",
        find_dropped_syn,
        "find the firewall that drops TCP option 30",
    ),
    Rule(
        "third-packet-option-stripped",
        "the third packet loses MP_CAPABLE on the way (`MPCapableFallbackACK` at the server)",
        find_stripped_third,
        "find the middlebox: capture on each hop",
    ),
    Rule(
        "fallback-after-handshake",
        "the handshake had MP_CAPABLE, and the socket fell back at the first data",
        find_late_fallback,
        "look for a middlebox that rewrites payload (FTP, SIP helpers) or options",
    ),
    Rule(
        "blackhole-pause",
        "`MPCapableSYNTXDisabled` moves: MPTCP is off after a black hole",
        find_pause,
        f"repair the path, then write `{PAUSE}` to begin anew",
    ),
    Rule(
        "server-answers-without-mptcp",
        "the SYN/ACK has no MP_CAPABLE",
        find_plain_answer,
        "`ss -ltnM` on the server; then look for a middlebox",
    ),
)
