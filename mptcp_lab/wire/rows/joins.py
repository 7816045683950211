"""Check the start of new subflows (RFC 8684, 3.2) and their ports (3.9.1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from mptcp_lab.wire import keys
from mptcp_lab.wire.model import Connection, Lack, Side, Subflow
from mptcp_lab.wire.options.base import MptcpOption
from mptcp_lab.wire.options.ending import TcpRst
from mptcp_lab.wire.options.joins import MpJoinAck, MpJoinSyn, MpJoinSynAck
from mptcp_lab.wire.packet import Segment
from mptcp_lab.wire.rows.requirement import (
    ANY,
    ON_SUBFLOW,
    Observation,
    breach,
    breach_or,
    ok,
    row,
    unseen,
    worst,
)

_NO_JOIN = "no MP_JOIN"
Form = TypeVar("Form", bound=MptcpOption)


def _option(segment: Segment | None, kind: type[Form]) -> Form | None:
    if segment is None:
        return None
    return next((each for each in segment.options if isinstance(each, kind)), None)


def joins(connection: Connection) -> Iterator[tuple[Subflow, Segment, MpJoinSyn]]:
    """Yield each subflow that was opened by MP_JOIN, with its SYN and the option."""
    for each in connection.subflows:
        option = _option(each.syn, MpJoinSyn)
        if each.syn is not None and option is not None:
            yield each, each.syn, option


@row("R17")
def join_syn(connection: Connection) -> Observation:
    """Look for a nonce that is used twice, and so is not random.

    The token needs no check: it has assigned the join to this connection.
    """
    if connection.unknown_token is not None:
        return unseen("the start of the connection is not in the capture")
    nonces: dict[int, int] = {}
    seen = []
    for subflow, segment, option in joins(connection):
        if option.nonce in nonces:
            seen.append(
                breach(f"nonce {option.nonce:#010x} comes twice", nonces[option.nonce], segment.number)
            )
        elif subflow.opener_id is not None:
            seen.append(ok(segment.number))
        nonces[option.nonce] = segment.number
    return worst(seen, _NO_JOIN)


def _proof(connection: Connection, subflow: Subflow, side: Side) -> bytes | None:
    """Return the HMAC (32 octets) that authenticates `side` on this subflow, or None if it is unknown."""
    mine, theirs = connection.stream(side).key, connection.stream(side.peer).key
    asked, answered = _option(subflow.syn, MpJoinSyn), _option(subflow.syn_ack, MpJoinSynAck)
    if mine is None or theirs is None or asked is None or answered is None:
        return None
    nonces = (asked.nonce, answered.nonce) if side is subflow.opener else (answered.nonce, asked.nonce)
    return keys.join_hmac(mine, theirs, *nonces)


@row("R18")
def join_syn_ack(connection: Connection) -> Observation:
    """Compare the HMAC with the one that follows from the keys of the handshake."""
    seen = []
    for subflow, _, _ in joins(connection):
        proof = _proof(connection, subflow, subflow.opener.peer)
        option = _option(subflow.syn_ack, MpJoinSynAck)
        if subflow.syn_ack is None or proof is None or option is None:
            continue
        number = subflow.syn_ack.number
        if option.hmac == proof[:8]:
            seen.append(ok(number))
        else:
            seen.append(breach(f"HMAC {option.hmac.hex()}, right is {proof[:8].hex()}", number))
    return worst(seen, "no join answered, or the keys are not in the capture")


@row("R19")
def join_ack(connection: Connection) -> Observation:
    """Compare the HMAC with the one computed with keys and nonces in the opener's order.

    If the other host goes on with MPTCP, it received a third packet with MP_JOIN, even if the capture has
    none.
    """
    seen = []
    for subflow, _, _ in joins(connection):
        proof = _proof(connection, subflow, subflow.opener)
        if subflow.ack is None or proof is None:
            continue
        option = _option(subflow.ack, MpJoinAck)
        if option is None:
            if not (connection.incomplete or subflow.half(subflow.opener.peer).mptcp_packets > 1):
                seen.append(breach("the third packet of a join has no MP_JOIN", subflow.ack.number))
        elif option.hmac != proof[:20]:
            seen.append(breach(f"HMAC {option.hmac.hex()}, right is {proof[:20].hex()}", subflow.ack.number))
        else:
            seen.append(ok(subflow.ack.number))
    return worst(seen, "no join completed, or the keys are not in the capture")


@row("R20")
def unknown_token(connection: Connection) -> Observation:
    """Look for the RST that answers a join whose token is in no handshake of the capture."""
    if connection.unknown_token is None:
        return unseen("every token belongs to a connection of the capture")
    seen = []
    for subflow, segment, _ in joins(connection):
        if subflow.syn_ack is None and subflow.refused_packet is not None:
            seen.append(ok(segment.number, subflow.refused_packet))
    return worst(seen, "the connection began before the capture, or the join was not answered")


@row("R24", ANY, by_address=True)
def address_ids(connection: Connection) -> Observation:
    """Compare the addresses of each address id: they stay the same until REMOVE_ADDR removes the id."""
    if connection.unknown_token is not None:
        return unseen("the start of the connection is not in the capture")
    first = connection.subflows[0]
    addresses = {(side, 0): (first.address(side)[0], first.first_packet) for side in Side}
    removed = {
        (event.side, number): event.packet
        for event in connection.removals
        for number in getattr(event.option, "address_ids", ())
    }
    seen = []
    for subflow, segment, _ in joins(connection):
        for side, number in (
            (subflow.opener, subflow.opener_id),
            (subflow.opener.peer, subflow.responder_id),
        ):
            if number is None:
                continue
            address = subflow.address(side)[0]
            known, packet = addresses.setdefault((side, number), (address, segment.number))
            again = removed.get((side, number), 0)
            if known != address and not packet < again < segment.number:
                detail = f"the {side.value}'s address id {number} is {address}, before it was {known}"
                seen.append(breach(detail, packet, segment.number))
            else:
                seen.append(ok(segment.number))
    return worst(seen, _NO_JOIN)


@row("R25", ON_SUBFLOW)
def refusals(connection: Connection) -> Observation:
    """Look for MP_TCPRST on RSTs that the responder sends before any data."""
    seen = []
    for subflow, segment, _ in joins(connection):
        half = subflow.half(subflow.opener.peer)
        if half.rst_packet is None or half.data_ack is not None or half.payload:
            continue
        reason = next((each for each in connection.resets if each.packet == half.rst_packet), None)
        if reason is None and subflow.syn_ack is None:
            continue  # the answer of a closed port or a firewall, not of a host that has the token
        if reason is None or not isinstance(reason.option, TcpRst):
            seen.append(breach("a join is refused without MP_TCPRST", segment.number, half.rst_packet))
        else:
            detail = f"reason {reason.option.reason}: {reason.option.reason_name}"
            seen.append(ok(segment.number, half.rst_packet, detail=detail))
    return worst(seen, "no join was refused")


@row("R26", ANY)
def backup_join(connection: Connection) -> Observation:
    """Look for new data towards a host that joined with flag B."""
    asked = [
        (subflow, segment)
        for subflow, segment, option in joins(connection)
        if option.backup or getattr(_option(subflow.syn_ack, MpJoinSynAck), "backup", False)
    ]
    if not asked:
        return unseen("no join with flag B")
    return breach_or(connection.findings_of("backup-used"), ok(*(segment.number for _, segment in asked)))


@row("R57", ANY, by_address=True)
def ports(connection: Connection) -> Observation:
    """Compare the ports of joins with the first subflow's and with those announced."""
    if connection.unknown_token is not None:
        return unseen("the start of the connection is not in the capture")
    first = connection.subflows[0]
    seen = []
    for subflow, segment, _ in joins(connection):
        side = subflow.opener.peer
        announced = {each.option.port for each in connection.announcements if each.side is side}
        if subflow.dport not in announced | {first.address(side)[1]}:
            seen.append(breach(f"join to port {subflow.dport}, neither in use nor announced", segment.number))
        else:
            seen.append(ok(segment.number))
    return worst(seen, _NO_JOIN)


@row("R58", (Lack.START,))
def opener(connection: Connection) -> Observation:
    """Look for joins that the server opens."""
    if connection.unknown_token is not None:
        return unseen("the start of the connection is not in the capture")
    seen = [
        ok(segment.number)
        if subflow.opener is Side.CLIENT
        else breach("a join is opened by the server", segment.number)
        for subflow, segment, _ in joins(connection)
    ]
    return worst(seen, _NO_JOIN)
