"""The server's announcements do not come to the client, or name addresses that the client cannot reach."""

from __future__ import annotations

from collections.abc import Iterable

from mptcp_lab.doctor.finding import Confidence, Finding, Rule, Severity
from mptcp_lab.doctor.readings import PairReading
from mptcp_lab.doctor.rules._common import announced_endpoints, captures, legs_with_server, missing_pairs


def find_lost_announcement(reading: PairReading) -> Iterable[Finding]:
    """Find addresses that the server announced and that never came to the client."""
    for leg, server in legs_with_server(reading):
        client_capture, server_capture = captures(leg.connection) if leg.connection else (None, None)
        if client_capture is None or server_capture is None:
            continue
        left, came = (
            {each.address for each in end.announcements if each.sender == "server" and not each.is_echo}
            for end in (server_capture, client_capture)
        )
        missing = {each.server for each in missing_pairs(leg)}
        lost = sorted((left - came) & missing)
        if lost:
            yield Finding(
                rule="announcement-lost",
                severity=Severity.WARNING,
                host=leg.client.name,
                what=f"{server.name} announces {', '.join(lost)}, and no ADD_ADDR for it comes to "
                f"{leg.client.name}.",
                why="The client does not learn the address, so it never joins it.",
                fix="ip mptcp monitor",
                evidence=("captured at the server: ADD_ADDR", "captured at the client: none"),
            )


def find_translation(reading: PairReading) -> Iterable[Finding]:
    """Find clients whose addresses are translated on the way, where subflows are missing."""
    for leg, server in legs_with_server(reading):
        _, server_capture = captures(leg.connection) if leg.connection else (None, None)
        missing = missing_pairs(leg)
        if server_capture is None or not missing or leg.connection is None:
            continue
        own = {each.client for each in leg.connection.pairs} | {leg.connection.client_address}
        strange = sorted({each.client for each in server_capture.joins} - own)
        is_moved = bool(leg.connection.server_address) and not server.device_of(leg.connection.server_address)
        hidden = [each.address for each in announced_endpoints(server) if server.device_of(each.address)]
        if not strange and not (is_moved and hidden):
            continue
        seen = (
            f"joins come from {', '.join(strange)}"
            if strange
            else f"no device has {leg.connection.server_address}"
        )
        yield Finding(
            rule="address-translated",
            severity=Severity.WARNING,
            host=server.name,
            what=f"Addresses are translated between {leg.client.name} and {server.name}.",
            why="The server announces addresses that the client cannot reach through the translator.",
            fix="ip mptcp endpoint add OUTSIDE_ADDRESS signal",
            confidence=Confidence.LIKELY,
            evidence=(f"at {server.name}: {seen}",),
        )


RULES = (
    Rule(
        "announcement-lost",
        "an ADD_ADDR is captured at the server, and not at the client",
        find_lost_announcement,
        "find the middlebox that takes ADD_ADDR out",
    ),
    Rule(
        "address-translated",
        "joins come from addresses that the client does not have, or the server lacks the "
        "address that it is reached at",
        find_translation,
        "announce the translator's outside address, without a port",
    ),
)
