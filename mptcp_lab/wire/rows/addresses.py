"""Check the exchange of addresses (RFC 8684, 3.4)."""

from __future__ import annotations

from mptcp_lab.wire import keys
from mptcp_lab.wire.model import Announcement, Connection, Subflow
from mptcp_lab.wire.options.addresses import AddAddr, RemoveAddr
from mptcp_lab.wire.rows.requirement import ANY, Observation, breach, known_deviation, ok, row, worst

_NONE = "no ADD_ADDR"
#: An echo is overdue after this many packets of the peer on the subflow, and this many on the connection.
_PEER_PACKETS_LATER, _PACKETS_LATER = 3, 10


def _echo(connection: Connection, announced: Announcement) -> int | None:
    """Return the packet of the first echo that follows an announcement, or None."""
    wanted = announced.option
    for each in connection.echoes:
        echo = each.option
        if not isinstance(echo, AddAddr) or each.side is announced.side or each.packet < announced.packet:
            continue
        if (echo.address_id, echo.address, echo.port) == (wanted.address_id, wanted.address, wanted.port):
            return each.packet
    return None


def _joins_to(connection: Connection, announced: Announcement) -> list[Subflow]:
    """Return the subflows that were opened to an announced address after the announcement."""
    side = announced.side
    return [
        each
        for each in connection.subflows[1:]
        if each.opener is side.peer
        and each.first_packet > announced.packet
        and each.dst == announced.option.address
    ]


@row("R39")
def form(connection: Connection) -> Observation:
    """Look for ADD_ADDR in the form of version 0; the codec decodes no other wrong form."""
    seen = [
        breach("ADD_ADDR as in version 0, without HMAC", each.packet) for each in connection.old_announcements
    ]
    seen += [ok(each.packet) for each in connection.announcements]
    seen += [ok(each.packet) for each in connection.echoes]
    return worst(seen, _NONE)


@row("R40")
def authentic(connection: Connection) -> Observation:
    """Compare the HMAC with the one that follows from the keys of the handshake."""
    seen = []
    for each in connection.announcements:
        mine, theirs = connection.stream(each.side).key, connection.stream(each.side.peer).key
        option = each.option
        if mine is None or theirs is None or option.hmac is None:
            continue
        right = keys.add_addr_hmac(mine, theirs, option.address_id, option.address, option.port)
        if option.hmac == right:
            seen.append(ok(each.packet))
        else:
            seen.append(breach(f"HMAC {option.hmac.hex()}, right is {right.hex()}", each.packet))
    return worst(seen, "no ADD_ADDR with keys in the capture")


@row("R42", ANY)
def echoes(connection: Connection) -> Observation:
    """Look for the echo of each announcement; if the echo is lost, the announcement is sent again (R43).

    Linux drops an ADD_ADDR that arrives while it processes another one (net/mptcp/pm.c,
    mptcp_pm_add_addr_received), as if it had been lost, and waits for the retransmission. This is a known
    deviation if the connection ends before the retransmission.
    """
    seen = []
    for each in connection.announcements:
        packet = _echo(connection, each)
        if packet is not None:
            seen.append(ok(each.packet, packet))
        elif _again(connection, each) or not _is_overdue(connection, each):
            continue
        elif _beside_another(connection, each):
            seen.append(known_deviation("ADD_ADDR beside another was not echoed", each.packet))
        else:
            seen.append(breach("ADD_ADDR was received and not echoed", each.packet))
    return worst(seen, "no ADD_ADDR that had the time to be echoed")


def _again(connection: Connection, announced: Announcement) -> bool:
    return any(
        each.packet > announced.packet and each.option == announced.option and each.side is announced.side
        for each in connection.announcements
    )


def _beside_another(connection: Connection, announced: Announcement) -> bool:
    """Return whether an announcement came between another announcement and that one's echo."""
    earlier = [each for each in connection.announcements if each.side is announced.side]
    return any(
        each.packet < announced.packet < (_echo(connection, each) or announced.packet) for each in earlier
    )


def _is_overdue(connection: Connection, announced: Announcement) -> bool:
    """Return whether enough packets follow an announcement that its echo is overdue.

    The peer must have sent packets on the same subflow, and the connection must have more packets.
    """
    half = connection.subflows[announced.subflow].half(announced.side.peer)
    later = connection.packets - announced.connection_packets
    return half.packets - announced.peer_packets >= _PEER_PACKETS_LATER and later >= _PACKETS_LATER


@row("R43")
def repetitions(connection: Connection) -> Observation:
    """Look for the same announcement again, without an echo before it."""
    seen = []
    for each in connection.announcements:
        later = [
            other.packet
            for other in connection.announcements
            if other.packet > each.packet and other.option == each.option and other.side is each.side
        ]
        echo = _echo(connection, each)
        if later and (echo is None or echo > later[0]):
            seen.append(ok(each.packet, later[0]))
    return worst(seen, "every ADD_ADDR was echoed at once")


@row("R44", ANY, by_address=True)
def same_port(connection: Connection) -> Observation:
    """Compare the port of joins to an address announced without a port with the port that announced it."""
    seen = []
    for each in connection.announcements:
        if each.option.port is not None:
            continue
        for subflow in _joins_to(connection, each):
            if subflow.dport == each.port:
                seen.append(ok(each.packet, subflow.first_packet))
            else:
                detail = f"join to port {subflow.dport}, announced on {each.port}"
                seen.append(breach(detail, each.packet, subflow.first_packet))
    return worst(seen, "no join to an address announced without port")


@row("R45", ANY, by_address=True)
def announced_port(connection: Connection) -> Observation:
    """Look for the answer to joins to announced ports: a SYN/ACK, or an RST as a breach."""
    seen = []
    for each in connection.announcements:
        if each.option.port is None:
            continue
        for subflow in _joins_to(connection, each):
            if subflow.dport != each.option.port:
                continue
            if subflow.syn_ack is not None:
                seen.append(ok(each.packet, subflow.first_packet, subflow.syn_ack.number))
            elif subflow.refused_packet is not None:
                detail = f"join to announced port {subflow.dport} is refused"
                seen.append(breach(detail, each.packet, subflow.first_packet, subflow.refused_packet))
    return worst(seen, "no join to an announced port")


@row("R46", ANY, by_address=True)
def no_second_attempt(connection: Connection) -> Observation:
    """Look for joins after one failed; retransmitted SYNs are one attempt."""
    seen = []
    for each in connection.announcements:
        tries = [other for other in _joins_to(connection, each) if other.opener_id is not None]
        failed = [other for other in tries if other.syn_ack is None]
        if not failed:
            continue
        same_source = [
            other
            for other in tries
            if other.first_packet > failed[0].last_packet
            and (other.src, other.dport) == (failed[0].src, failed[0].dport)
        ]
        if same_source:
            detail = f"another join to {each.option.address} after one failed"
            seen.append(breach(detail, failed[0].first_packet, same_source[0].first_packet))
        else:
            seen.append(ok(each.packet, failed[0].first_packet))
    return worst(seen, "no join to an announced address has failed")


@row("R47")
def removals(connection: Connection) -> Observation:
    """Look for FIN or RST on the subflows of a removed address, and for more packets after an unknown id."""
    seen = []
    for event in connection.removals:
        if not isinstance(event.option, RemoveAddr):
            continue
        concerned = [
            each
            for each in connection.subflows
            if (each.opener_id if each.opener is event.side else each.responder_id)
            in event.option.address_ids
        ]
        for each in concerned:
            ends = [
                half_end
                for half in (each.client, each.server)
                for half_end in (half.fin_packet, half.rst_packet)
                if half_end is not None
            ]
            if ends:
                seen.append(ok(event.packet, min(ends)))
        if not concerned and max(each.last_packet for each in connection.subflows) > event.packet:
            seen.append(ok(event.packet, detail="no subflow has that id"))
    return worst(seen, "no REMOVE_ADDR, or its subflows were kept as alive")
