"""Check data transfer and closing (RFC 8684, 3.3)."""

from __future__ import annotations

from mptcp_lab.wire.model import Connection, Lack, State, Stream
from mptcp_lab.wire.options.data import MpPrioV0
from mptcp_lab.wire.rows.requirement import (
    ANY,
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

_NO_DATA = "no mapped data"
_GAPS = "the capture lacks packets that were acknowledged"


def _streams(connection: Connection) -> list[Stream]:
    """Return the directions that have mappings."""
    return [each for each in (connection.client, connection.server) if each.first_dsn is not None]


@row("R28", (Lack.START, Lack.HEADERS))
def mappings(connection: Connection) -> Observation:
    """Look for payload without a mapping, and for mappings that contradict each other."""
    streams = _streams(connection)
    if not streams or connection.state is not State.MPTCP:
        return unseen(_NO_DATA)
    findings = connection.findings_of("mapping-conflict")
    if not connection.lacks(*ON_SUBFLOW):
        findings += connection.findings_of("unmapped")
    return breach_or(findings, ok(*(each.first_packet for each in streams)))


@row("R60", ON_SUBFLOW)
def fast_open(connection: Connection) -> Observation:
    """Compare the first mapping: the data after the SYN's data has subflow sequence number 1."""
    subflow, stream = connection.subflows[0], connection.client
    if subflow.syn is None or not subflow.syn.payload_length or connection.state is not State.MPTCP:
        return unseen("no SYN with data, or no MPTCP after it")
    if stream.first_dsn is None or stream.idsn is None:
        return unseen(_NO_DATA)
    begins = (stream.first_dsn - stream.idsn, subflow.client.first_mapping)
    if begins != (1, 1):
        detail = f"the data after the SYN begins at IDSN + {begins[0]}, subflow sequence number {begins[1]}"
        return breach(detail, subflow.syn.number, stream.first_packet)
    return ok(subflow.syn.number, stream.first_packet)


@row("R29", ANY)
def delivery(connection: Connection) -> Observation:
    """Look for holes between the initial DSN and a DATA_FIN that the receiver acknowledged."""
    seen = []
    for stream in _streams(connection):
        if stream.data_fin is None or stream.data_fin_acked_packet is None or stream.idsn is None:
            continue
        start, end = stream.idsn + 1, stream.data_fin
        if start < end and not stream.mapped.covers(start, end):
            seen.append(breach(f"the {stream.side.value}'s stream has holes", stream.data_fin_acked_packet))
        else:
            detail = f"{end - start} octets from the {stream.side.value}"
            seen.append(ok(stream.data_fin_packet, stream.data_fin_acked_packet, detail=detail))
    return worst(seen, "no stream is complete in the capture")


@row("R31")
def data_acks(connection: Connection) -> Observation:
    """Look for DATA_ACKs that decrease, exceed the data that was sent, or are shorter than the DSNs."""
    acknowledged = [each for each in (connection.client, connection.server) if each.data_acks]
    if not acknowledged:
        return unseen("no DATA_ACK")
    findings = connection.findings_of("data-ack-back", "data-ack-past-end")
    if not connection.incomplete:
        findings += connection.findings_of("data-ack-ahead", "data-ack-short")
    short = sum(each.data_acks_short for each in acknowledged)
    total = sum(each.data_acks for each in acknowledged)
    detail = f"{total} DATA_ACKs, {short} of 4 octets"
    return breach_or(findings, ok(*(each.acked_packet for each in acknowledged), detail=detail))


@row("R32")
def window(connection: Connection) -> Observation:
    """Compare the end of each mapping with the highest DATA_ACK plus window.

    Linux adds to a DATA_ACK the window that the subflow has by TCP's rules: a duplicate acknowledgement does
    not shrink it. Data that only such a window allows is a known deviation.
    """
    streams = [each for each in _streams(connection) if each.edge is not None and not each.scale_unknown]
    if not streams:
        return unseen("no data with a window to compare")
    if connection.incomplete:
        return unseen(_GAPS)
    kept = connection.findings_of("window-kept")
    if not kept:
        return breach_or(connection.findings_of("window"), ok(*(each.first_packet for each in streams)))
    detail = f"{len(kept)} mappings beyond a window that a duplicate acknowledgement made smaller"
    return breach_or(
        connection.findings_of("window"), known_deviation(detail, *(each.packet for each in kept))
    )


@row("R33", (Lack.START,))
def data_fin(connection: Connection) -> Observation:
    """Look for the DATA_ACK of DATA_FIN + 1, and for a DATA_FIN whose DSN changes."""
    findings = connection.findings_of("data-fin-moved")
    seen = [
        ok(each.data_fin_packet, each.data_fin_acked_packet)
        for each in _streams(connection)
        if each.data_fin_acked_packet is not None
    ]
    return breach_or(findings, worst(seen, "no DATA_FIN was acknowledged in the capture"))


@row("R34", ANY)
def data_fin_last(connection: Connection) -> Observation:
    """Look for missing data at the time when a DATA_FIN is acknowledged."""
    seen = []
    for stream in _streams(connection):
        if stream.data_fin_acked_packet is None:
            continue
        if stream.early_fin_ack is None:
            seen.append(ok(stream.data_fin_acked_packet))
        else:
            seen.append(breach("DATA_FIN acknowledged, data before it is missing", stream.early_fin_ack))
    return worst(seen, "no DATA_FIN was acknowledged in the capture")


@row("R35")
def subflows_closed(connection: Connection) -> Observation:
    """Look for FINs on each subflow that is open when both DATA_FINs are acknowledged.

    A subflow with outstanding data may be reset, because that data arrived over another subflow.
    """
    finished = [each.data_fin_acked_packet for each in (connection.client, connection.server)]
    if None in finished:
        return unseen("no DATA_FIN acknowledged in both directions")
    last = max(each for each in finished if each is not None)
    seen = []
    for subflow in connection.subflows:
        halves = (subflow.client, subflow.server)
        resets = [
            each.rst_packet for each in halves if each.rst_packet is not None and each.rst_packet > last
        ]
        outstanding = any(each.acked <= each.payload for each in halves)  # the SYN counts as one
        if resets and outstanding:
            seen.append(ok(last, *resets, detail=f"subflow {subflow.id} had data outstanding"))
        elif resets and not any(each.packet < resets[0] for each in connection.gaps):
            seen.append(breach(f"subflow {subflow.id} is reset after DATA_FIN", last, *resets))
        elif all(each.fin_packet is not None for each in halves):
            seen.append(ok(*(each.fin_packet for each in halves)))
    return worst(seen, "the capture ends before the subflows are closed")


@row("R36")
def reinjections(connection: Connection) -> Observation:
    """List the reinjections that a DATA_ACK covers: the receiver accepted the duplicate data."""
    seen = []
    for each in connection.reinjections:
        stream = connection.stream(each.side)
        if stream.acked is None or stream.acked < each.dsn + each.length:
            continue
        seen.append(ok(each.of_packet, each.packet))
        if len(seen) == 5:
            break
    total = connection.client.reinjected + connection.server.reinjected
    found = worst(seen, "nothing was reinjected and acknowledged")
    return Observation(found.outcome, found.packets, found.detail or f"{total} octets reinjected")


@row("R37", ANY)
def backup(connection: Connection) -> Observation:
    """Look for new data on subflows that the peer asked to use as backup only, by flag B or MP_PRIO."""
    asked = [each for each in connection.subflows if each.client.backup or each.server.backup]
    if not asked and not len(connection.priorities):
        return unseen("no subflow is backup")
    packets = [each.first_packet for each in asked] + [each.packet for each in connection.priorities]
    return breach_or(connection.findings_of("backup-used"), ok(*packets))


@row("R38")
def priority(connection: Connection) -> Observation:
    """Check the form of MP_PRIO; R37 checks that the peer obeys it."""
    seen = [
        breach("MP_PRIO with an address id, as in version 0", each.packet)
        if isinstance(each.option, MpPrioV0)
        else ok(each.packet)
        for each in connection.priorities
    ]
    return worst(seen, "no MP_PRIO")
