"""Compare our reading of a capture with tshark's, field by field.

    python -m tests.wire.compare RESULTS_FOLDER_OR_CAPTURE ...

A folder's captures (a run of the suite keeps them as evidence) are merged host by host, so that tshark starts
once for each host. What is known of tshark 4.0 and explained where it is passed over:

- It never shows the checksum of a DSS: it wants four octets after the mapping, and a checksum has two.
- The upper half of a first DATA_ACK of 4 octets is taken from the host that sends it, not from the one whose
  data it acknowledges.
- `mptcp.reinjection_of` stays empty; reinjected octets are counted from the mappings that it dissects.
- A join whose first packet in the capture is the SYN/ACK, because the capture began in between, is not
  dissected ("Dissector bug"), or counts as another connection, once its SYN is sent again.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path

from mptcp_lab.wire import (
    AddAddr,
    Analysis,
    CaptureFile,
    Connection,
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
    analyse,
    idsn,
    token,
)
from mptcp_lab.wire.packet import ACK, SYN
from tests.wire.tshark import NUMBERS, TEXTS, P, Row, fields, numbers

Flow = frozenset[tuple[object, int]]


@dataclass
class Reading:
    """One capture as both read it: tshark's row and our segment of each packet, and our analysis."""

    rows: list[Row]
    segments: dict[int, Segment]
    analysis: Analysis

    @classmethod
    def of(cls, path: Path) -> Reading:
        segments = tuple(CaptureFile(path))
        return cls(fields(path), {each.number: each for each in segments}, analyse(segments))

    def __post_init__(self) -> None:
        self._flows: dict[Flow, list[tuple[int, Connection, Side]]] = defaultdict(list)
        for connection in self.analysis.connections:
            for each in connection.subflows:
                opener = each.address(each.opener)
                flow = frozenset((opener, each.address(each.opener.peer)))
                self._flows[flow].append((each.first_packet, connection, each.opener))

    @cached_property
    def begun_before(self) -> set[int]:
        """The packets of flows whose first packet in the capture is a SYN/ACK."""
        first: dict[Flow, bool] = {}
        found = set()
        for number, each in self.segments.items():
            flow = frozenset(((each.src, each.sport), (each.dst, each.dport)))
            if first.setdefault(flow, each.flags & (SYN | ACK) == SYN | ACK):
                found.add(number)
        return found

    def place(self, number: int) -> tuple[Connection, Side]:
        """The connection that a packet belongs to, and who sent it; ports may be used again."""
        segment = self.segments[number]
        flow = frozenset(((segment.src, segment.sport), (segment.dst, segment.dport)))
        _, connection, opener = max(
            (each for each in self._flows[flow] if each[0] <= number), key=lambda each: each[0]
        )
        subflow = next(
            each
            for each in reversed(connection.subflows)
            if frozenset((each.address(opener), each.address(opener.peer))) == flow
        )
        sent_by_opener = (segment.src, segment.sport) == subflow.address(opener)
        return connection, opener if sent_by_opener else opener.peer


def ours(option: MptcpOption) -> Iterator[tuple[str, object]]:
    """Return the names that tshark has for the fields of an option."""
    yield "subtype", option.SUBTYPE
    match option:
        case MpCapable():
            yield "version", option.version
            yield "extensibility.flag", option.extensibility
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
            yield "dataackpresent.flag", option.data_ack is not None
            yield "dataack8.flag", option.data_ack_octets == 8
            yield "dseqnpresent.flag", option.dsn is not None
            yield "dseqn8.flag", option.dsn_octets == 8
            yield "rawdataack", option.data_ack
            yield "rawdataseqno", option.dsn
            yield "subflowseqno", option.subflow_seq
            yield "datalvllen", option.data_length
        case AddAddr():
            yield "echo", option.echo
            yield "addrid", option.address_id
            yield "ipv4" if option.address.version == 4 else "ipv6", option.address
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
            yield "flag_T.flag", option.transient
            for place, flag in enumerate("WVU"):
                yield f"flag_{flag}.flag", bool(option.reserved >> place & 1)


def our_fields(segment: Segment) -> dict[str, list[object]]:
    """The MPTCP options of a segment, as tshark's fields."""
    row: dict[str, list[object]] = {name: [] for name in NUMBERS + TEXTS}
    for option in segment.options:
        if isinstance(option, MptcpOption):
            for name, value in ours(option):
                if value is not None:
                    row[name].append(int(value) if isinstance(value, bool) else value)
    return row


def their_fields(row: Row) -> dict[str, list[object]]:
    """The same of a row of tshark."""
    found: dict[str, list[object]] = {name: [*numbers(row, P + name)] for name in NUMBERS}
    for name in TEXTS:
        found[name] = [
            each.replace(":", "") if name == "sendhmac" else ip_address(each) for each in row[P + name]
        ]
    return found


def options(reading: Reading) -> Iterator[str]:
    """Every field of every option of every packet."""
    for row in reading.rows:
        (number,) = numbers(row, "frame.number")
        theirs = their_fields(row)
        segment = reading.segments.get(number)
        mine = our_fields(segment) if segment else {name: [] for name in theirs}
        if mine != theirs and number not in reading.begun_before:
            names = [name for name in theirs if mine[name] != theirs[name]]
            differ = ", ".join(f"{name} {mine[name]} against {theirs[name]}" for name in names)
            yield f"packet {number}: ours against tshark's: {differ}"


def connections(reading: Reading) -> Iterator[str]:
    """tshark numbers MPTCP connections as it meets them; ours has the same packets in each."""
    pairs: dict[tuple[int, int], int] = {}
    for row in reading.rows:
        for stream in numbers(row, "mptcp.stream"):
            (number,) = numbers(row, "frame.number")
            if number in reading.begun_before:
                continue
            connection, _ = reading.place(number)
            pairs.setdefault((stream, connection.id), number)
    for position, whose in ((0, "tshark's connection"), (1, "our connection")):
        seen: dict[int, list[int]] = defaultdict(list)
        for pair, number in pairs.items():
            seen[pair[position]].append(number)
        for name, packets in seen.items():
            if len(packets) > 1:
                yield f"{whose} {name} is several of the other's: packets {packets}"


def derived(reading: Reading) -> Iterator[str]:
    """Tokens and initial DSNs of the keys."""
    names = (P + "sendkey", "mptcp.expected_token", "mptcp.expected_idsn")
    for row in reading.rows:
        keys, tokens, idsns = (numbers(row, name) for name in names)
        for derive, found in ((token, tokens), (idsn, idsns)):
            mine = [derive(key) for key in keys[: len(found)]]
            if mine != found:
                yield f"packet {row['frame.number'][0]}: {derive.__name__} {mine} against {found}"


def data_acks(reading: Reading) -> Iterator[str]:
    """The highest DATA_ACK of each stream, expanded to 64 bits."""
    highest: dict[tuple[int, Side], int] = {}
    by_id = {each.id: each for each in reading.analysis.connections}
    for row in reading.rows:
        for ack, raw in zip(numbers(row, "mptcp.ack"), numbers(row, P + "rawdataack"), strict=False):
            (number,) = numbers(row, "frame.number")
            connection, sender = reading.place(number)
            own, acknowledged = connection.stream(sender).idsn, connection.stream(sender.peer).idsn
            if own is None or acknowledged is None:
                continue  # without the handshake's keys a short DATA_ACK has no upper half
            if ack >> 32 != acknowledged >> 32 and ack != raw and ack >> 32 == own >> 32:
                ack = acknowledged >> 32 << 32 | raw
            key = (connection.id, sender.peer)
            highest[key] = max(ack, highest.get(key, 0))
    for (connection_id, side), ack in highest.items():
        mine = by_id[connection_id].stream(side).acked
        if mine != ack:
            yield f"connection {connection_id}, {side.value}'s data: DATA_ACK {mine} against {ack}"


def length_of_union(ranges: list[tuple[int, int]]) -> int:
    """How many numbers ranges cover."""
    total, last = 0, -1
    for start, end in sorted(ranges):
        total += max(0, end - max(start, last))
        last = max(last, end)
    return total


def reinjected(reading: Reading) -> Iterator[str]:
    """Octets that have more than one place: all places in the subflows less the octets of the stream."""
    names = (P + "rawdataseqno", P + "subflowseqno", P + "datalvllen")
    places: dict[tuple[int, int, Side], list[tuple[int, int]]] = defaultdict(list)
    data: dict[tuple[int, Side], list[tuple[int, int]]] = defaultdict(list)
    for row in reading.rows:
        if not row[P + "rawdataseqno"] or not row[P + "subflowseqno"]:
            continue
        (dsn,), (ssn,), (length,) = (numbers(row, name) for name in names)
        length -= numbers(row, P + "datafin.flag")[0]
        connection, side = reading.place(numbers(row, "frame.number")[0])
        (subflow,) = numbers(row, "tcp.stream")
        if length > 0:
            places[connection.id, subflow, side].append((ssn, ssn + length))
            data[connection.id, side].append((dsn & 0xFFFFFFFF, (dsn & 0xFFFFFFFF) + length))
    for connection in reading.analysis.connections:
        if connection.state is not State.MPTCP:
            continue
        for side in Side:
            placed = sum(
                length_of_union(each) for key, each in places.items() if key[0::2] == (connection.id, side)
            )
            theirs = placed - length_of_union(data[connection.id, side])
            mine = connection.stream(side).reinjected
            if mine != theirs:
                yield f"connection {connection.id}, {side.value}'s data: reinjected {mine}, not {theirs}"


COMPARISONS: tuple[Callable[[Reading], Iterator[str]], ...] = (
    options,
    connections,
    derived,
    data_acks,
    reinjected,
)


def disagreements(path: Path) -> list[str]:
    """Everything that differs in one capture."""
    reading = Reading.of(path)
    return [f"{path.name}: {each.__name__}: {what}" for each in COMPARISONS for what in each(reading)]


def merged(captures: Iterable[Path], folder: Path) -> list[Path]:
    """The captures of a run, one file for each host: "capture-at-HOST.pcapng.gz", "capture-at-HOST-2..."."""
    by_host: dict[str, list[Path]] = defaultdict(list)
    for each in captures:
        by_host[each.name.removeprefix("capture-at-").partition(".")[0].partition("-")[0]].append(each)
    files = []
    for host, parts in sorted(by_host.items()):
        files.append(folder / f"{host}.pcapng")
        subprocess.run(
            ["mergecap", "-F", "pcapng", "-w", str(files[-1]), *map(str, sorted(parts))], check=True
        )
    return files


def of_run(results: Path) -> tuple[int, list[str]]:
    """How many packets a run of the suite has captured, and everything that differs in them."""
    with tempfile.TemporaryDirectory() as folder:
        files = merged(results.rglob("capture-at-*.pcapng.gz"), Path(folder))
        found = [what for each in files for what in disagreements(each)]
        return sum(len(fields(each)) for each in files), found


def main(arguments: list[str]) -> int:
    """Print what differs; 1 if anything does."""
    bad = 0
    for path in map(Path, arguments):
        packets, found = of_run(path) if path.is_dir() else (len(fields(path)), disagreements(path))
        print(f"{path}: {packets} packets, {len(found)} disagreements")
        print("".join(f"  {each}\n" for each in found[:50]), end="")
        bad += len(found)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
