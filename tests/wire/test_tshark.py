"""Field by field with tshark, on every capture: options of each packet, then connections and reinjections."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mptcp_lab.wire import (
    AddAddr,
    Dss,
    MpCapable,
    MpFail,
    MpFastclose,
    MpJoinAck,
    MpJoinSyn,
    MpJoinSynAck,
    MpPrio,
    MptcpOption,
    RemoveAddr,
    Segment,
    Side,
    State,
    TcpRst,
)
from tests.wire.conftest import analysis_of, named, segments_of
from tests.wire.tshark import NUMBERS, TEXTS, P, fields, numbers


def ours(option: MptcpOption) -> Iterator[tuple[str, object]]:
    """What tshark calls the fields of an option."""
    yield "subtype", option.SUBTYPE
    match option:
        case MpCapable():
            yield "sendkey", option.sender_key
            yield "recvkey", option.receiver_key
            yield "datalvllen", option.data_length
            yield "checksum", option.checksum
            yield "checksumreq.flags", option.checksum_required
            yield "nomoresubflows.flag", option.no_join_initial
            yield "sha256.flag", option.hmac_sha256
        case MpJoinSyn():
            yield "backup.flag", option.backup
            yield "addrid", option.address_id
            yield "recvtok", option.token
            yield "sendrand", option.nonce
        case MpJoinSynAck():
            yield "backup.flag", option.backup
            yield "addrid", option.address_id
            yield "sendtrunchmac", int.from_bytes(option.hmac, "big")
            yield "sendrand", option.nonce
        case MpJoinAck():
            yield "sendhmac", option.hmac.hex()
        case Dss():
            yield "datafin.flag", option.data_fin
            yield "rawdataack", option.data_ack
            yield "rawdataseqno", option.dsn
            yield "subflowseqno", option.subflow_seq
            yield "datalvllen", option.data_length
            # No checksum: see test_tshark_hides_dss_checksums.
        case AddAddr():
            yield "echo", option.echo
            yield "addrid", option.address_id
            yield "ipv4" if option.address.version == 4 else "ipv6", str(option.address)
            yield "port", option.port
            yield "addaddrtrunchmac", None if option.hmac is None else int.from_bytes(option.hmac, "big")
        case RemoveAddr():
            for each in option.address_ids:
                yield "addrid", each
        case MpPrio():
            yield "backup.flag", option.backup
        case MpFail():
            yield "rawdataseqno", option.dsn
        case MpFastclose():
            yield "recvkey", option.receiver_key
        case TcpRst():
            yield "rst_reason", option.reason


def our_fields(segment: Segment) -> dict[str, list[object]]:
    row: dict[str, list[object]] = {name: [] for name in NUMBERS + TEXTS}
    for option in segment.options:
        if isinstance(option, MptcpOption):
            for name, value in ours(option):
                if value is not None:
                    row[name].append(int(value) if isinstance(value, bool) else value)
    return row


def test_every_field_of_every_option(capture: Path) -> None:
    rows = fields(capture)
    segments = {each.number: each for each in segments_of(capture)}
    assert len(rows) == len(segments)
    for row in rows:
        (number,) = numbers(row, "frame.number")
        theirs = {name: numbers(row, P + name) for name in NUMBERS}
        texts = {
            name: [each.replace(":", "") if name == "sendhmac" else each for each in row[P + name]]
            for name in TEXTS
        }
        assert our_fields(segments[number]) == {**theirs, **texts}, f"packet {number}"


def test_subflows_belong_to_the_same_connections(capture: Path) -> None:
    """tshark numbers MPTCP connections as it meets them; ours has the same packets in each."""
    analysis = analysis_of(capture)
    by_flow = {
        frozenset((each.address(each.opener), each.address(each.opener.peer))): connection.id
        for connection in analysis.connections
        for each in connection.subflows
    }
    pairs = set()
    segments = {each.number: each for each in segments_of(capture)}
    for row in fields(capture):
        for stream in numbers(row, "mptcp.stream"):
            segment = segments[numbers(row, "frame.number")[0]]
            ends = frozenset(((segment.src, segment.sport), (segment.dst, segment.dport)))
            pairs.add((stream, by_flow[ends]))
    assert len({theirs for theirs, _ in pairs}) == len(pairs) == len({mine for _, mine in pairs})


def test_tshark_hides_dss_checksums() -> None:
    """tshark 4.0 wants four octets after the mapping to show a DSS checksum, which has two: it never does.

    The evidence: its field is empty on DSS long enough for a checksum, and the checksums we read
    there are right for the payload (test_keys). On MP_CAPABLE with data both agree.
    """
    path = named("checksum")
    rows = fields(path)
    ours_on_dss = {
        each.number
        for each in segments_of(path)
        for option in each.options
        if isinstance(option, Dss) and option.checksum is not None
    }
    theirs = {numbers(row, "frame.number")[0] for row in rows if row[P + "checksum"]}
    assert len(ours_on_dss) >= 10
    assert not theirs & ours_on_dss


def test_data_acks_in_full(capture: Path) -> None:
    """Expanded to 64 bits, DATA_ACKs are those of tshark, but for one mistake of it with the 4-octet form.

    tshark 4.0 takes the upper half of a first, 4-octet DATA_ACK from the initial DSN of the host that sends
    it; what it acknowledges is the other host's data. Where we disagree, its value has that upper half, and
    the lower half is what was on the wire.
    """
    connections = {each.id: each for each in analysis_of(capture).connections}
    highest: dict[tuple[int, Side], int] = {}
    for row in fields(capture):
        for ack, raw in zip(numbers(row, "mptcp.ack"), numbers(row, P + "rawdataack"), strict=True):
            (stream,) = numbers(row, "mptcp.stream")
            sender = Side.CLIENT if numbers(row, "tcp.dstport")[0] in (7000, 7777) else Side.SERVER
            connection = connections[stream]
            own, acknowledged = connection.stream(sender).idsn, connection.stream(sender.peer).idsn
            if connection.state is State.FALLBACK and own is None:
                continue  # fast_open_refused: the client has given up MPTCP before it gave its key
            assert own is not None and acknowledged is not None
            if ack >> 32 != acknowledged >> 32:
                assert ack != raw, "this is the 4-octet form"
                assert ack >> 32 == own >> 32
                ack = acknowledged >> 32 << 32 | raw
            key = (stream, sender.peer)
            highest[key] = max(ack, highest.get(key, 0))
    for (stream, side), ack in highest.items():
        assert connections[stream].stream(side).acked == ack


def length_of_union(ranges: list[tuple[int, int]]) -> int:
    total, last = 0, -1
    for start, end in sorted(ranges):
        total += max(0, end - max(start, last))
        last = max(last, end)
    return total


def test_reinjected_octets(capture: Path) -> None:
    """Octets that have more than one place: all places in the subflows less the octets of the stream.

    tshark's own mptcp.reinjection_of stays empty on these captures (4.0, all analysis preferences on), so
    the sum is made of the mappings that it dissects.
    """
    names = (
        "tcp.stream",
        "tcp.dstport",
        "mptcp.stream",
        P + "rawdataseqno",
        P + "subflowseqno",
        P + "datalvllen",
    )
    places: dict[tuple[int, int, Side], list[tuple[int, int]]] = {}
    data: dict[tuple[int, Side], list[tuple[int, int]]] = {}
    for row in fields(capture):
        if not row[P + "rawdataseqno"] or not row[P + "subflowseqno"]:
            continue
        (dsn,), (ssn,), (length,) = (numbers(row, name) for name in names[3:])
        length -= numbers(row, P + "datafin.flag")[0]
        side = Side.CLIENT if numbers(row, "tcp.dstport")[0] in (7000, 7777) else Side.SERVER
        (stream,), (subflow,) = numbers(row, "mptcp.stream"), numbers(row, "tcp.stream")
        places.setdefault((stream, subflow, side), []).append((ssn, ssn + length))
        data.setdefault((stream, side), []).append((dsn & 0xFFFFFFFF, (dsn & 0xFFFFFFFF) + length))
    connections = {each.id: each for each in analysis_of(capture).connections}
    for (stream, side), ranges in data.items():
        placed = sum(length_of_union(each) for key, each in places.items() if key[0::2] == (stream, side))
        assert connections[stream].stream(side).reinjected == placed - length_of_union(ranges)
    if capture.stem == "failover":
        assert connections[0].client.reinjected > 100_000
