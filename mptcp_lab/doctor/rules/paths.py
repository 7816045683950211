"""Where the packets of a missing subflow end, as captures at both ends show, and who refuses it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from mptcp_lab.doctor.connection_reading import REFUSED, Join, Pair, Reset
from mptcp_lab.doctor.finding import Confidence, Finding, Rule, Severity
from mptcp_lab.doctor.host_reading import HostReading
from mptcp_lab.doctor.readings import Leg, PairReading
from mptcp_lab.doctor.rules._causes import CAUSES_OF_TCP, JOIN_LISTENERS, MANAGEMENT, ROUTES
from mptcp_lab.doctor.rules._common import captures, legs_with_server, missing_pairs

CAUSES = (*CAUSES_OF_TCP, *MANAGEMENT, *ROUTES, *JOIN_LISTENERS, "ipv6-broken", "address-translated")
#: The reasons of MP_TCPRST (RFC 8684, section 3.6).
REASONS = {
    0: "unspecified",
    1: "an MPTCP error",
    2: "a lack of resources",
    3: "an administrative prohibition",
    4: "too much outstanding data",
    5: "unacceptable performance",
    6: "middlebox interference",
}


class Seen(NamedTuple):
    """A pair without its subflow, and its join as each end captured it."""

    leg: Leg
    server: HostReading
    pair: Pair
    client_join: Join | None
    server_join: Join | None


def _pairs(reading: PairReading) -> Iterator[Seen]:
    """Yield the missing pairs of legs that were captured at both ends."""
    for leg, server in legs_with_server(reading):
        client_capture, server_capture = captures(leg.connection) if leg.connection else (None, None)
        if client_capture is None or server_capture is None:
            continue
        for pair in missing_pairs(leg):
            joins = (each.join(pair.client, pair.server) for each in (client_capture, server_capture))
            yield Seen(leg, server, pair, *joins)


def _finding(
    rule: str, seen: Seen, what: str, why: str, *evidence: str, follows: tuple[str, ...] = ()
) -> Finding:
    device = seen.leg.client.device_of(seen.pair.client) or "any"
    return Finding(
        rule=rule,
        severity=Severity.WARNING,
        host=seen.leg.client.name,
        what=what,
        why=why,
        fix=f"tcpdump -ni {device} 'tcp port {seen.leg.port} and host {seen.pair.server}'",
        confidence=Confidence.LIKELY,
        evidence=evidence,
        follows_from=(*CAUSES, *follows),
    )


def find_lost_syn(reading: PairReading) -> Iterable[Finding]:
    """Find joins whose SYN left the client and did not come to the server."""
    for seen in _pairs(reading):
        join = seen.client_join
        if join and join.syns and not (seen.server_join and seen.server_join.syns) and not join.resets:
            yield _finding(
                "join-syn-lost",
                seen,
                f"Joins from {seen.pair.client} to {seen.pair.server} do not come to {seen.server.name}.",
                "A router or firewall on that path drops them, or it has no route.",
                f"captured at {seen.leg.client.name}: {join.syns} SYNs on {_devices(join)}",
                f"captured at {seen.server.name}: none",
            )


def _devices(join: Join) -> str:
    return ", ".join(sorted(join.devices)) or "some device"


def find_lost_answer(reading: PairReading) -> Iterable[Finding]:
    """Find joins whose SYN/ACK left the server and did not come to the client."""
    for seen in _pairs(reading):
        there, here = seen.server_join, seen.client_join
        if there and there.synacks and not (here and here.synacks):
            yield _finding(
                "join-answer-lost",
                seen,
                f"Answers to joins from {seen.pair.client} to {seen.pair.server} do not come back.",
                "The way back is another one: look at the server's routes, and at firewalls that "
                "see one direction.",
                f"captured at {seen.server.name}: {there.synacks} SYN/ACKs on {_devices(there)}",
                f"captured at {seen.leg.client.name}: none",
            )


def find_lost_third(reading: PairReading) -> Iterable[Finding]:
    """Find joins whose third packet left the client and did not come to the server."""
    for seen in _pairs(reading):
        there, here = seen.server_join, seen.client_join
        if here and there and here.acks and here.synacks and not there.acks and not there.resets:
            yield _finding(
                "join-third-packet-lost",
                seen,
                f"Third packets of joins from {seen.pair.client} to {seen.pair.server} are lost.",
                "A stateful firewall that sees one direction calls the third packet invalid.",
                f"captured at {seen.leg.client.name}: {here.acks} third packets",
                f"captured at {seen.server.name}: none",
            )


def find_stripped_join(reading: PairReading) -> Iterable[Finding]:
    """Find joins whose option is taken out on the way."""
    for seen in _pairs(reading):
        there, here = seen.server_join, seen.client_join
        if not here or not there:
            continue
        is_syn = here.syn_option is True and there.syn_option is False
        is_answer = there.synack_option is True and here.synack_option is False
        is_third = here.ack_option is True and there.ack_option is False
        if is_syn or is_answer or is_third:
            packet = "SYN" if is_syn else "SYN/ACK" if is_answer else "third packet"
            yield _finding(
                "join-option-stripped",
                seen,
                f"Something between {seen.pair.client} and {seen.pair.server} takes MP_JOIN out of packets.",
                "The path carries TCP, and no additional subflow.",
                f"the {packet} leaves with the option and comes without",
            )


def find_refused(reading: PairReading) -> Iterable[Finding]:
    """Find joins that one end answers with a reset, and name the reason that the reset has."""
    for leg, server in legs_with_server(reading):
        if leg.connection is None:
            continue
        ends = [each for each in captures(leg.connection) if each is not None]
        for pair in missing_pairs(leg):
            joins = [join for end in ends if (join := end.join(pair.client, pair.server)) is not None]
            resets = [reset for join in joins for reset in join.resets]
            if not resets and pair.state != REFUSED:
                continue
            by = server if not resets or resets[0].sender == "server" else leg.client
            yield Finding(
                rule="join-refused",
                severity=Severity.WARNING,
                host=by.name,
                what=f"{by.name} refuses joins from {pair.client} to {pair.server} with a reset.",
                why="Its limit is reached, no socket listens there, it does not know the "
                "connection, or a filter rejects.",
                fix=f"ip mptcp limits; ss -ltnM 'sport = :{leg.port}'",
                confidence=Confidence.POSSIBLE,
                evidence=(_describe(resets[0]) if resets else "the subflow was reset",),
                follows_from=(*CAUSES, "join-option-stripped"),
            )


def _describe(reset: Reset) -> str:
    reason = (
        "no reason"
        if reset.reason is None
        else f"reason {reset.reason}: {REASONS.get(reset.reason, 'unknown')}"
    )
    return f"RST from {reset.source} with {reason}"


RULES = (
    Rule(
        "join-syn-lost",
        "the SYN of a join is captured at the client, and not at the server",
        find_lost_syn,
        "look at routes and firewalls of that path, and at `rp_filter` of routers",
    ),
    Rule(
        "join-answer-lost",
        "the SYN/ACK of a join is captured at the server, and not at the client",
        find_lost_answer,
        "look at the server's routes per source address",
    ),
    Rule(
        "join-third-packet-lost",
        "the third packet of a join is captured at the client, and not at the server",
        find_lost_third,
        "look for a stateful firewall that sees one direction",
    ),
    Rule(
        "join-option-stripped",
        "a packet of a join comes without the MP_JOIN that it left with",
        find_stripped_join,
        "find the middlebox of that path",
    ),
    Rule(
        "join-refused",
        "a join is answered by a RST; its MP_TCPRST reason is named",
        find_refused,
        "limits, listener and packet filter of the host that refuses",
    ),
)
