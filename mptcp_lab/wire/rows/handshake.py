"""Check connection initiation and keys (RFC 8684, 3.1)."""

from __future__ import annotations

from collections.abc import Iterator

from mptcp_lab.wire.model import Connection, Side, Subflow
from mptcp_lab.wire.options.base import MptcpOption
from mptcp_lab.wire.options.handshake import MpCapable
from mptcp_lab.wire.packet import Segment
from mptcp_lab.wire.rows.requirement import (
    ON_SUBFLOW,
    Observation,
    breach,
    breach_or,
    known_deviation,
    ok,
    row,
    unseen,
    worst,
)

_NO_HANDSHAKE = "the capture has no MP_CAPABLE handshake"
#: A first captured mapping may be at most this many octets behind the initial DSN. No capture misses a
#: terabyte, so a greater difference is a wrong initial DSN.
_MOST_LATE = 1 << 40


def capable(segment: Segment | None) -> MpCapable | None:
    """Return the MP_CAPABLE of a segment, or None."""
    if segment is None:
        return None
    return next((each for each in segment.options if isinstance(each, MpCapable)), None)


def _has_mptcp(segment: Segment) -> bool:
    return any(isinstance(each, MptcpOption) for each in segment.options)


def handshake(connection: Connection) -> Iterator[tuple[str, Segment, MpCapable]]:
    """Yield name, segment and MP_CAPABLE of the first subflow's SYN, SYN/ACK and third packet."""
    first = connection.subflows[0]
    for name, segment in (("SYN", first.syn), ("SYN/ACK", first.syn_ack), ("third packet", first.ack)):
        option = capable(segment)
        if segment is not None and option is not None:
            yield name, segment, option


def _find_only(connection: Connection, which: str) -> tuple[Segment, MpCapable] | None:
    return next(((segment, option) for name, segment, option in handshake(connection) if name == which), None)


def _no_keys(option: MpCapable) -> tuple[int | None, ...]:
    return (option.sender_key, option.receiver_key, option.data_length, option.checksum)


@row("R01")
def syn(connection: Connection) -> Observation:
    """Check version and length of the MP_CAPABLE in the first SYN."""
    found = _find_only(connection, "SYN")
    if found is None:
        return unseen(_NO_HANDSHAKE)
    segment, option = found
    if option.version != 1 or any(each is not None for each in _no_keys(option)):
        octets = len(option.encode())
        return breach(f"SYN carries version {option.version}, length {octets}", segment.number)
    return ok(segment.number)


@row("R02")
def syn_ack(connection: Connection) -> Observation:
    """Check version and key of the MP_CAPABLE in the SYN/ACK."""
    found = _find_only(connection, "SYN/ACK")
    if found is None:
        return unseen(_NO_HANDSHAKE)
    segment, option = found
    if option.sender_key is None or option.receiver_key is not None or option.version != 1:
        octets = len(option.encode())
        return breach(f"SYN/ACK carries version {option.version}, length {octets}", segment.number)
    return ok(segment.number)


@row("R03")
def third_ack(connection: Connection) -> Observation:
    """Check both keys of the MP_CAPABLE in the client's first packet after its SYN."""
    found = _find_only(connection, "third packet")
    if found is None:
        return unseen(_NO_HANDSHAKE)
    segment, option = found
    if option.sender_key is None or option.receiver_key is None:
        return breach("the third packet does not carry both keys", segment.number)
    server = _find_only(connection, "SYN/ACK")
    if server and server[1].sender_key != option.receiver_key:
        return breach(
            "the third packet returns another key than the SYN/ACK gave", server[0].number, segment.number
        )
    return ok(segment.number)


@row("R04", ON_SUBFLOW)
def first_data(connection: Connection) -> Observation:
    """Look for MP_CAPABLE on the client's first data.

    It is not needed after a DSS or an ADD_ADDR of the server, which confirms that the server has the keys.
    """
    segment = connection.first_data.get(Side.CLIENT)
    if segment is None or capable(connection.subflows[0].ack) is None:
        return unseen("no MPTCP data from the client")
    confirmed = [connection.first_dss.get(Side.SERVER)]
    confirmed += [each.packet for each in connection.announcements if each.side is Side.SERVER]
    if any(each is not None and each < segment.number for each in confirmed):
        return unseen("the server had confirmed the keys before the first data")
    option = capable(segment)
    if option is None or option.data_length is None:
        return breach("the first data comes without MP_CAPABLE and data length", segment.number)
    return ok(segment.number)


@row("R05")
def algorithm(connection: Connection) -> Observation:
    """Check flags D to H of each MP_CAPABLE of the handshake: only H is set."""
    return worst(
        (
            ok(segment.number)
            if option.hmac_sha256 and not option.unassigned_flags
            else breach(f"{name} has flags {option.flags:#04x}", segment.number)
            for name, segment, option in handshake(connection)
        ),
        _NO_HANDSHAKE,
    )


@row("R06")
def extensibility(connection: Connection) -> Observation:
    """Check that flag B is clear in each MP_CAPABLE of the handshake."""
    return worst(
        (
            breach(f"{name} sets flag B", segment.number) if option.extensibility else ok(segment.number)
            for name, segment, option in handshake(connection)
        ),
        _NO_HANDSHAKE,
    )


@row("R08")
def plain_syn(connection: Connection) -> Observation:
    """Look for MPTCP options in the answer to a plain SYN."""
    first = connection.subflows[0]
    if first.syn is None or first.syn_ack is None or _has_mptcp(first.syn):
        return unseen("no SYN without MPTCP options")
    if _has_mptcp(first.syn_ack):
        return breach("the SYN/ACK offers what the SYN did not", first.syn.number, first.syn_ack.number)
    return ok(first.syn.number, first.syn_ack.number)


@row("R09", ON_SUBFLOW)
def plain_syn_ack(connection: Connection) -> Observation:
    """Look for MPTCP options of the client after a SYN/ACK without MP_CAPABLE."""
    first = connection.subflows[0]
    if capable(first.syn) is None or first.syn_ack is None or _has_mptcp(first.syn_ack):
        return unseen("no SYN/ACK without MP_CAPABLE to a SYN with it")
    if first.ack is None:
        return unseen("nothing from the client after the SYN/ACK")
    findings = [each for each in connection.findings_of("option-after-fallback") if each.side is Side.CLIENT]
    return breach_or(findings, ok(first.syn_ack.number, first.ack.number))


@row("R10", ON_SUBFLOW)
def plain_third_ack(connection: Connection) -> Observation:
    """Look for MPTCP options of the server after a third packet without MP_CAPABLE."""
    fallback = connection.fallback
    if fallback is None or fallback.reason != "third packet without MP_CAPABLE":
        return unseen("no third packet without MP_CAPABLE")
    findings = [each for each in connection.findings_of("option-after-fallback") if each.side is Side.SERVER]
    return breach_or(findings, ok(fallback.packet))


@row("R12")
def unique_keys(connection: Connection) -> Observation:
    """Compare the keys with those of other connections of the capture, and the tokens of the two hosts."""
    client, server = connection.client, connection.server
    if client.key is None or server.key is None:
        return unseen("the capture does not show both keys")
    segments = [segment.number for _, segment, _ in handshake(connection)]
    if connection.shared_key is not None:
        return breach("another connection of this capture uses the same key", connection.shared_key)
    if client.token == server.token:
        return breach("both hosts use the same token", *segments)
    return ok(*segments)


@row("R13")
def initial_dsn(connection: Connection) -> Observation:
    """Compare the first mapping of each side with its initial DSN + 1.

    A join that belongs to the connection shows that its token was derived correctly.
    """
    seen = []
    for stream in (connection.client, connection.server):
        if stream.idsn is None or stream.first_dsn is None or stream.first_packet is None:
            continue
        if stream.first_dsn == stream.idsn + 1:
            seen.append(ok(stream.first_packet))
        elif not connection.incomplete or (stream.first_dsn - stream.idsn - 1) % (1 << 64) > _MOST_LATE:
            detail = f"the {stream.side.value}'s data starts at {stream.first_dsn}, not {stream.idsn + 1}"
            seen.append(breach(detail, stream.first_packet))
    seen += [ok(each.first_packet) for each in connection.subflows if each.joined and connection.server.token]
    return worst(seen, "no keys with data or joins")


@row("R14", by_address=True)
def no_join_initial(connection: Connection) -> Observation:
    """Look for joins to the initial address of a side that set flag C."""
    seen = []
    first = connection.subflows[0]
    for name, segment, option in handshake(connection):
        if not option.no_join_initial or name == "SYN":
            continue
        side = Side.SERVER if name == "SYN/ACK" else Side.CLIENT
        closed = [
            each
            for each in connection.subflows[1:]
            if each.opener is side.peer and each.address(side) == first.address(side)
        ]
        seen.append(
            breach(f"MP_JOIN to the {side.value}'s initial address", segment.number, closed[0].first_packet)
            if closed
            else ok(segment.number)
        )
    return worst(seen, "nobody set flag C")


@row("R15", ON_SUBFLOW)
def checksums(connection: Connection) -> Observation:
    """Count the mappings with and without a checksum."""
    flags = {name: option.checksum_required for name, _, option in handshake(connection)}
    if not {"SYN/ACK", "third packet"} <= flags.keys():
        return unseen(_NO_HANDSHAKE)
    wanted = any(flags.values())
    seen = []
    for stream in (connection.client, connection.server):
        wrong = stream.first_bare if wanted else stream.first_checksummed
        if wrong is not None:
            detail = "has no checksum although" if wanted else "has a checksum although not"
            seen.append(breach(f"a mapping of the {stream.side.value} {detail} negotiated", wrong))
        elif stream.mappings:
            seen.append(ok(stream.first_packet))
    return worst(seen, "no mappings")


@row("R16", ON_SUBFLOW)
def established_first(connection: Connection) -> Observation:
    """Compare the first join of each opener with the peer's first DSS.

    Linux accepts an ADD_ADDR as confirmation too (net/mptcp/options.c, check_fully_established).
    """
    if connection.unknown_token is not None or capable(connection.subflows[0].syn) is None:
        return unseen(_NO_HANDSHAKE)
    seen = []
    for each in connection.subflows[1:]:
        confirmed = connection.first_dss.get(each.opener.peer)
        if confirmed is None or confirmed > each.first_packet:
            announced = _announced_first(connection, each)
            if announced is None:
                seen.append(breach("MP_JOIN before any DSS of the peer", each.first_packet, confirmed))
            else:
                detail = "MP_JOIN before any DSS of the peer, but after its ADD_ADDR"
                seen.append(known_deviation(detail, announced, each.first_packet, confirmed))
        else:
            seen.append(ok(confirmed, each.first_packet))
    return worst(seen, "no join")


def _announced_first(connection: Connection, join: Subflow) -> int | None:
    """Return the packet of the first ADD_ADDR of the peer before a join, or None."""
    peer = join.opener.peer
    packets = (each.packet for each in connection.announcements if each.side is peer)
    return next((each for each in packets if each < join.first_packet), None)
