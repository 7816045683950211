"""Check fast close, subflow reset and fallback (RFC 8684, 3.5 to 3.7)."""

from __future__ import annotations

from mptcp_lab.wire.model import Connection, Subflow
from mptcp_lab.wire.options.ending import MpFail, MpFastclose, TcpRst
from mptcp_lab.wire.rows.handshake import capable
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


@row("R49")
def fastclose(connection: Connection) -> Observation:
    """Compare the key with the peer's key, and look for an RST on each subflow."""
    seen = []
    for event in connection.fastcloses:
        key = connection.stream(event.side.peer).key
        if key is None or not isinstance(event.option, MpFastclose):
            continue
        if event.option.receiver_key != key:
            seen.append(breach("MP_FASTCLOSE with another key than the receiver's", event.packet))
            continue
        for subflow in connection.subflows:
            resets = [each.rst_packet for each in (subflow.client, subflow.server) if each.rst_packet]
            if resets:
                seen.append(ok(event.packet, *resets))
    return worst(seen, "no MP_FASTCLOSE with keys in the capture")


@row("R51")
def reset_reason(connection: Connection) -> Observation:
    """Check the RST flag of the segment, the reserved flags and the reason code."""
    findings = connection.findings_of("rst-option")
    seen = [
        _reason(each.option, each.packet) for each in connection.resets if isinstance(each.option, TcpRst)
    ]
    return breach_or(findings, worst(seen, "no MP_TCPRST"))


def _reason(option: TcpRst, packet: int) -> Observation:
    if option.reason_name == "unassigned":
        return breach(f"MP_TCPRST with unassigned reason {option.reason}", packet)
    if option.reserved:
        return breach(f"MP_TCPRST with flags U to W {option.reserved:03b}", packet)
    return ok(packet, detail=option.reason_name)


@row("R52", ON_SUBFLOW)
def silent_start(connection: Connection) -> Observation:
    """Look for MPTCP options after a third packet or first data without MPTCP options."""
    fallback = connection.fallback
    reasons = ("first data without DSS", "third packet without MP_CAPABLE")
    if fallback is None or fallback.reason not in reasons:
        return unseen("the first data came with MPTCP options, or without a handshake")
    return breach_or(
        connection.findings_of("option-after-fallback"), ok(fallback.packet, detail=fallback.reason)
    )


@row("R53", ANY)
def failed_one(connection: Connection) -> Observation:
    """Look for an RST with MP_FAIL while other subflows exist."""
    seen = []
    for event in connection.fails:
        if len(connection.subflows) < 2 or not isinstance(event.option, MpFail):
            continue
        others = [each for each in connection.subflows if each.id != event.subflow]
        if not event.on_rst and any(_is_alive(each, event.packet) for each in others):
            seen.append(breach("MP_FAIL without RST although there are other subflows", event.packet))
        elif event.on_rst and any(each.last_packet > event.packet for each in others):
            seen.append(ok(event.packet))
    return worst(seen, "no MP_FAIL with several subflows")


def _is_alive(subflow: Subflow, packet: int) -> bool:
    """Return whether a subflow was established, and neither host had ended it, at a packet."""
    halves = (subflow.client, subflow.server)
    ends = [end for each in halves for end in (each.fin_packet, each.rst_packet) if end is not None]
    established = subflow.established_packet
    return established is not None and established < packet and not any(each < packet for each in ends)


@row("R54", ANY)
def failed_only(connection: Connection) -> Observation:
    """Look for the answering MP_FAIL and the infinite mapping after MP_FAIL.

    If data was reinjected, the data in flight may not be contiguous, and a reset is correct too. Nothing is
    concluded if the capture then shows neither, or if the capture ends before the connection does.
    """
    alone = [each for each in connection.fails if len(connection.subflows) == 1 and not each.on_rst]
    if not alone:
        return unseen("no MP_FAIL on an only subflow")
    fallback = connection.fallback
    if fallback is None or fallback.reason != "infinite mapping":
        only = connection.subflows[0]
        resets = [each.rst_packet for each in (only.client, only.server) if each.rst_packet is not None]
        if connection.reinjections.total:
            if resets:
                return ok(alone[0].packet, *resets, detail="reset: the data in flight was not contiguous")
            return unseen("data was sent again on the only subflow, and no reset was captured")
        if not only.is_closed:
            return unseen("the capture ends after MP_FAIL, before the connection does")
        return breach("no infinite mapping after MP_FAIL", alone[0].packet)
    answer = next((each for each in alone if each.side is not alone[0].side), None)
    if answer is None:
        return breach("MP_FAIL is not answered with MP_FAIL", alone[0].packet, fallback.packet)
    return ok(alone[0].packet, answer.packet, fallback.packet)


@row("R55", ON_SUBFLOW)
def quiet(connection: Connection) -> Observation:
    """Look for MPTCP options of a side after it has seen that its peer uses plain TCP."""
    fallback = connection.fallback
    if fallback is None or capable(connection.subflows[0].syn) is None:
        return unseen("no fallback")
    findings = connection.findings_of("option-after-fallback", "join-after-fallback")
    return breach_or(findings, ok(fallback.packet, detail=fallback.reason))
