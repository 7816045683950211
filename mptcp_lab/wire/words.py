"""Describe options and the states of subflows in words, for reports and evidence."""

from __future__ import annotations

from mptcp_lab.wire.model import Connection, Half, Subflow
from mptcp_lab.wire.options.addresses import AddAddr, AddAddrV0, RemoveAddr
from mptcp_lab.wire.options.base import MptcpOption
from mptcp_lab.wire.options.data import Dss, MpPrio, MpPrioV0
from mptcp_lab.wire.options.ending import MpFail, MpFastclose, TcpRst
from mptcp_lab.wire.options.experimental import Experimental
from mptcp_lab.wire.options.handshake import MpCapable, MpCapableV0
from mptcp_lab.wire.options.joins import MpJoinAck, MpJoinSyn, MpJoinSynAck


def option_words(option: MptcpOption) -> str:
    """Return an option's name and the values of its fields, as the object of a sentence."""
    match option:
        case AddAddr() | AddAddrV0():
            port = "" if option.port is None else f" port {option.port}"
            kind = " echo" if isinstance(option, AddAddr) and option.echo else ""
            old = " of version 0" if isinstance(option, AddAddrV0) else ""
            return f"ADD_ADDR{kind}{old}: {option.address}{port} (id {option.address_id})"
        case RemoveAddr():
            ids = ", ".join(map(str, option.address_ids))
            return f"REMOVE_ADDR: id{'s' * (len(option.address_ids) != 1)} {ids}"
        case MpPrio():
            return f"MP_PRIO: {_priority(option.backup)}"
        case MpPrioV0():
            return f"MP_PRIO of version 0: id {option.address_id}, {_priority(option.backup)}"
        case MpFail():
            return f"MP_FAIL: data from DSN {option.dsn} on"
        case MpFastclose():
            return f"MP_FASTCLOSE: receiver's key {option.receiver_key:016x}"
        case TcpRst():
            lasting = "transient" if option.transient else "permanent"
            return f"MP_TCPRST: reason {option.reason} ({option.reason_name}), {lasting}"
        case MpCapable() | MpCapableV0():
            return _capable_words(option)
        case MpJoinSyn():
            backup = ", backup" if option.backup else ""
            return (
                f"MP_JOIN: token {option.token:08x}, id {option.address_id}, nonce {option.nonce:08x}{backup}"
            )
        case MpJoinSynAck():
            backup = ", backup" if option.backup else ""
            hmac = option.hmac.hex()
            return f"MP_JOIN: HMAC {hmac}, id {option.address_id}, nonce {option.nonce:08x}{backup}"
        case MpJoinAck():
            return f"MP_JOIN: HMAC {option.hmac.hex()}"
        case Dss():
            return _dss_words(option)
        case Experimental():
            return f"MP_EXPERIMENTAL: {option.data.hex() or 'no data'}"
        case _:
            return option.name


def _priority(backup: bool) -> str:
    return "backup from now on" if backup else "regular from now on"


def _capable_words(option: MpCapable | MpCapableV0) -> str:
    words = [f"version {option.version}" if isinstance(option, MpCapable) else "version 0"]
    if option.sender_key is not None:
        words.append(f"sender's key {option.sender_key:016x}")
    if option.receiver_key is not None:
        words.append(f"receiver's key {option.receiver_key:016x}")
    if isinstance(option, MpCapable) and option.data_length is not None:
        words.append(f"{option.data_length} octets of data")
    return f"MP_CAPABLE: {', '.join(words)}"


def _dss_words(option: Dss) -> str:
    words = []
    if option.data_ack is not None:
        words.append(f"DATA_ACK {option.data_ack}")
    if option.dsn is not None:
        length = option.data_length or 0
        words.append(f"DSN {option.dsn}, {length - option.data_fin} octets" if length else "infinite mapping")
    if option.data_fin:
        words.append("DATA_FIN")
    return f"DSS: {', '.join(words) or 'empty'}"


def subflow_state(connection: Connection, subflow: Subflow) -> str:
    """Return in words how a subflow was established, or why not, and how it ended."""
    opener, answerer = (subflow.half(side) for side in (subflow.opener, subflow.opener.peer))
    refusal = _refusal(subflow, opener, answerer)
    if refusal is not None:
        return _describe_refusal(connection, subflow, refusal)
    if subflow.established_packet is None:
        return _not_established(connection, subflow, opener, answerer)
    began = f"established in packet {subflow.established_packet}"
    return f"{began}, {_end(connection, subflow)}"


def _refusal(subflow: Subflow, opener: Half, answerer: Half) -> Half | None:
    """Return the side that reset a subflow before any data, or None."""
    if subflow.syn is None or opener.payload or answerer.payload:
        return None
    if answerer.rst_packet is not None and answerer.data_ack is None and opener.fin_packet is None:
        return answerer if subflow.joined or subflow.answered_packet is None else None
    if opener.rst_packet is not None and subflow.established_packet is None:
        return opener
    return None


def _describe_refusal(connection: Connection, subflow: Subflow, half: Half) -> str:
    assert half.rst_packet is not None
    text = f"refused by the {half.side.value} in packet {half.rst_packet}"
    if subflow.answered_packet is not None and half.side is not subflow.opener:
        text += ", after its SYN/ACK"
    return text + _reason(connection, half.rst_packet)


def _reason(connection: Connection, packet: int) -> str:
    reasons = (each.option for each in connection.resets if each.packet == packet)
    option = next((each for each in reasons if isinstance(each, TcpRst)), None)
    return "" if option is None else f" (reason {option.reason}: {option.reason_name})"


def _not_established(connection: Connection, subflow: Subflow, opener: Half, answerer: Half) -> str:
    if subflow.syn is None and not subflow.is_opening_cut:
        if subflow.answered_packet is not None:
            return f"began before the capture; SYN/ACK in packet {subflow.answered_packet}"
        return f"began before the capture, {_end(connection, subflow)}"
    if subflow.is_past_handshake:
        return f"established, its SYN/ACK not captured, {_end(connection, subflow)}"
    if subflow.answered_packet is not None:
        return f"not established: the {opener.side.value} did not acknowledge the SYN/ACK"
    times = f"{subflow.syns} SYN{'s' * (subflow.syns != 1)}"
    if not any(each.half(answerer.side).packets for each in connection.subflows) and connection.incomplete:
        return f"{times}; nothing that the {answerer.side.value} sent was captured"
    return f"never answered: {times}, nothing from the {answerer.side.value}"


def _end(connection: Connection, subflow: Subflow) -> str:
    halves = (subflow.client, subflow.server)
    for half in halves:
        if half.rst_packet is not None:
            reason = _reason(connection, half.rst_packet)
            return f"reset by the {half.side.value} in packet {half.rst_packet}{reason}"
    closed = [half for half in halves if half.fin_packet is not None]
    if len(closed) == len(halves):
        return "closed"
    if closed:
        return f"closed by the {closed[0].side.value} only"
    return "open at the end of the capture"
