"""Every passive row: green on a capture of the real kernel, red on the same capture rewritten."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from mptcp_lab import catalogue
from mptcp_lab.catalogue import Level
from mptcp_lab.errors import LabError
from mptcp_lab.paths import ROOT
from mptcp_lab.wire import (
    AddAddr,
    AddAddrV0,
    Connection,
    Dss,
    MpCapable,
    MpFail,
    MpFastclose,
    MpJoinAck,
    MpJoinSyn,
    MpJoinSynAck,
    MpPrio,
    MpPrioV0,
    MptcpOption,
    RemoveAddr,
    Segment,
    TcpRst,
    analyse,
)
from mptcp_lab.wire.packet import ACK, FIN, RST, SYN
from mptcp_lab.wire.rows import ROWS, Observation, Outcome
from mptcp_lab.wire.rows.requirement import registered_rows
from tests.wire.conftest import ODD, analysis_of, capture_paths, named, segments_of

Segments = list[Segment]
BY_ALIAS = {row.alias: row for row in ROWS}
MODULES = sorted(
    path
    for path in (ROOT / "mptcp_lab" / "wire" / "rows").glob("*.py")
    if path.stem not in ("__init__", "requirement")
)

# Rows that a capture can show to hold, but not to be broken: that looks like a slow or absent peer.
NEVER_RED = {
    "R20": "a host may have the token that it answers, although the capture does not show it",
    "R36": "data not sent again may have been acknowledged unseen",
    "R43": "an announcement not repeated may still be",
    "R47": "a subflow kept after REMOVE_ADDR may be alive",
}
# Where the real kernel deviates from a row: see test_deviations_of_the_real_kernel_are_the_known_ones.
KERNEL_DEVIATIONS = {
    ("R16", "add_addr"),
    ("R16", "add_addr_again"),
    ("R16", "add_addr_port"),
    ("R16", "add_addr_v6"),
    ("R16", "add_addr_v6_port"),
    ("R16", "join"),
    ("R16", "join_reset"),
    ("R16", "no_join_initial"),
    ("R16", "remove_addr"),
}


def verdict(alias: str, segments: Segments) -> list[Observation]:
    return [BY_ALIAS[alias].check(each) for each in analyse(segments).connections]


def outcomes(alias: str, segments: Segments) -> set[Outcome]:
    return {each.outcome for each in verdict(alias, segments)}


def carrying(segments: Segments, kind: type[MptcpOption], nth: int = 0, **fields: Any) -> int:
    """Index of the nth segment with such an option, of such fields."""
    found = [
        at
        for at, segment in enumerate(segments)
        for option in segment.options
        if isinstance(option, kind) and all(getattr(option, name) == value for name, value in fields.items())
    ]
    return found[nth]


def put(segments: Segments, at: int, **fields: Any) -> Segments:
    return [*segments[:at], replace(segments[at], **fields), *segments[at + 1 :]]


def swap(segments: Segments, at: int, kind: type[MptcpOption], *new: MptcpOption) -> Segments:
    """That segment with its option of the kind replaced (or taken out)."""
    kept = tuple(each for each in segments[at].options if not isinstance(each, kind))
    return put(segments, at, options=kept + new)


def edit(segments: Segments, at: int, kind: type[MptcpOption], **fields: Any) -> Segments:
    option = next(each for each in segments[at].options if isinstance(each, kind))
    return swap(segments, at, kind, replace(option, **fields))


def edited(kind: type[MptcpOption], nth: int = 0, **fields: Any) -> Callable[[Segments], Segments]:
    return lambda segments: edit(segments, carrying(segments, kind, nth), kind, **fields)


def to_server(segment: Segment) -> bool:
    return segment.dport in (7000, 7777)


def with_data(segments: Segments, from_client: bool, nth: int = 0) -> int:
    return [at for at, each in enumerate(segments) if each.payload_length and to_server(each) is from_client][
        nth
    ]


def late_option(from_client: bool) -> Callable[[Segments], Segments]:
    """An MPTCP option long after the fallback."""

    def change(segments: Segments) -> Segments:
        at = max(
            n for n, each in enumerate(segments) if to_server(each) is from_client and not each.flags & FIN
        )
        return put(segments, at, options=(*segments[at].options, Dss(data_ack=1)))

    return change


def shifted_mapping(by: int) -> Callable[[Segments], Segments]:
    """One mapping of the client is elsewhere in the data stream."""

    def change(segments: Segments) -> Segments:
        at = with_data(segments, True, 1)
        dss = next(each for each in segments[at].options if isinstance(each, Dss))
        assert dss.dsn is not None
        return edit(segments, at, Dss, dsn=dss.dsn + by)

    return change


def same_key_twice(segments: Segments) -> Segments:
    """The handshake again from another port and with other sequence numbers, but the same keys."""
    again = [
        replace(
            each, sport=each.sport if each.sport == 7000 else 9, dport=each.dport if to_server(each) else 9
        )
        for each in segments
    ]
    return segments + [replace(each, seq=(each.seq + 5) % 2**32, number=each.number + 100) for each in again]


def readdressed(old: str, new: str) -> Callable[[Segments], Segments]:
    there, here = ip_address(old), ip_address(new)

    def change(segments: Segments) -> Segments:
        return [
            replace(
                each, src=here if each.src == there else each.src, dst=here if each.dst == there else each.dst
            )
            for each in segments
        ]

    return change


def join_on_port(port: int) -> Callable[[Segments], Segments]:
    def change(segments: Segments) -> Segments:
        join = segments[carrying(segments, MpJoinSyn)]
        return [
            replace(
                each,
                dport=port if each.sport == join.sport else each.dport,
                sport=port if each.dport == join.sport else each.sport,
            )
            for each in segments
        ]

    return change


def data_on_backup(segments: Segments) -> Segments:
    """The server's first packet on the backup subflow after the handshake carries new data."""
    join = segments[carrying(segments, MpJoinSyn)]
    at = next(n for n, each in enumerate(segments) if each.dport == join.sport and not each.flags & SYN)
    stream = analyse(segments[:at]).connections[0].server
    assert stream.highest is not None
    dss = next(each for each in segments[at].options if isinstance(each, Dss))
    mapping = replace(dss, dsn=stream.highest, subflow_seq=1, data_length=10, dsn_octets=8)
    return put(swap(segments, at, Dss, mapping), at, payload_length=10)


def data_ack_back(segments: Segments) -> Segments:
    at = [n for n, each in enumerate(segments) if not to_server(each) and each.payload_length][-1]
    dss = next(each for each in segments[at].options if isinstance(each, Dss))
    assert dss.data_ack is not None
    return edit(segments, at, Dss, data_ack=dss.data_ack - 150)


def short_data_ack(segments: Segments) -> Segments:
    """The server's last DATA_ACK of data is its lower half, while the client's DSNs are whole."""
    at = [n for n, each in enumerate(segments) if not to_server(each) and each.payload_length][-1]
    dss = next(each for each in segments[at].options if isinstance(each, Dss))
    assert dss.data_ack is not None
    return edit(segments, at, Dss, data_ack=dss.data_ack % (1 << 32), data_ack_octets=4)


def second_data_fin(segments: Segments) -> Segments:
    at = carrying(segments, Dss, data_fin=True)
    fin = next(each for each in segments[at].options if isinstance(each, Dss))
    assert fin.dsn is not None
    moved = replace(fin, dsn=fin.dsn + 7)
    again = next(n for n in range(at + 1, len(segments)) if to_server(segments[n]) == to_server(segments[at]))
    return swap(segments, again, Dss, moved)


def reset_instead_of_fin(segments: Segments) -> Segments:
    finished = max(
        packet
        for stream in (analyse(segments).connections[0].client, analyse(segments).connections[0].server)
        if (packet := stream.data_fin_acked_packet) is not None
    )
    at = next(n for n, each in enumerate(segments) if each.number > finished and each.flags & FIN)
    return put(segments, at, flags=RST | ACK)


def refused_at_port(segments: Segments) -> Segments:
    at = carrying(segments, MpJoinSynAck)
    return put(segments[: at + 1], at, flags=RST | ACK, options=())


def second_attempt(segments: Segments) -> Segments:
    join = segments[carrying(segments, MpJoinSyn)]
    return [*segments, replace(join, sport=9, seq=9, number=segments[-1].number + 1)]


def opened_by_server(segments: Segments) -> Segments:
    token = analyse(segments).connections[0].client.token
    return edited(MpJoinSyn, token=token)(segments)


def never_announced(segments: Segments) -> Segments:
    """The joins, which come before a DSS of the server, without an ADD_ADDR that Linux takes for one."""
    return [
        replace(each, options=tuple(one for one in each.options if not isinstance(one, AddAddr)))
        for each in segments
    ]


def same_nonce_twice(segments: Segments) -> Segments:
    first = next(
        each for each in segments[carrying(segments, MpJoinSyn)].options if isinstance(each, MpJoinSyn)
    )
    return edited(MpJoinSyn, 1, nonce=first.nonce)(segments)


def unmap(segments: Segments) -> Segments:
    at = with_data(segments, False, 1)
    return edit(segments, at, Dss, dsn=None, subflow_seq=None, data_length=None)


def without_option(kind: type[MptcpOption], nth: int = 0, **fields: Any) -> Callable[[Segments], Segments]:
    return lambda segments: swap(segments, carrying(segments, kind, nth, **fields), kind)


def version_0(segments: Segments) -> Segments:
    at = carrying(segments, AddAddr)
    option = next(each for each in segments[at].options if isinstance(each, AddAddr))
    return swap(segments, at, AddAddr, AddAddrV0(option.address_id, option.address))


def old_priority(segments: Segments) -> Segments:
    return swap(segments, carrying(segments, MpPrio), MpPrio, MpPrioV0(True, 4))


def not_rst(kind: type[MptcpOption]) -> Callable[[Segments], Segments]:
    return lambda segments: put(segments, carrying(segments, kind), flags=ACK)


def no_checksum(segments: Segments) -> Segments:
    at = with_data(segments, False)
    return edit(segments, at, Dss, checksum=None)


def mapped_from_the_syn(segments: Segments) -> Segments:
    """The mappings of the client count the SYN's data as part of the stream."""
    taken = segments[0].payload_length
    for at, segment in enumerate(segments):
        for dss in segment.options:
            if isinstance(dss, Dss) and to_server(segment) and dss.dsn and dss.subflow_seq:
                new = {"dsn": dss.dsn + taken, "subflow_seq": dss.subflow_seq + taken}
                segments = edit(segments, at, Dss, **new)
    return segments


def finite_mappings(segments: Segments) -> Segments:
    return [
        replace(
            each,
            options=tuple(o for o in each.options if not (isinstance(o, Dss) and o.data_length == 0)),
        )
        for each in segments
    ]


RED: list[tuple[str, str, Callable[[Segments], Segments]]] = [
    ("R01", "handshake", edited(MpCapable, 0, sender_key=1)),
    ("R01", "handshake", edited(MpCapable, 0, version=2)),
    ("R02", "handshake", edited(MpCapable, 1, receiver_key=1)),
    ("R03", "handshake", edited(MpCapable, 2, receiver_key=1)),
    ("R04", "handshake", edited(MpCapable, 3, data_length=None)),
    ("R05", "handshake", edited(MpCapable, 1, flags=0)),
    ("R05", "handshake", edited(MpCapable, 0, flags=0x03)),
    ("R06", "handshake", edited(MpCapable, 0, flags=0x41)),
    ("R08", "plain_client", lambda segments: put(segments, 1, options=(MpCapable(sender_key=1),))),
    ("R09", "fallback_synack", late_option(True)),
    ("R10", "fallback_third_ack", late_option(False)),
    ("R12", "handshake", same_key_twice),
    ("R13", "half_close", edited(Dss, 1, dsn=77)),
    ("R14", "no_join_initial", readdressed("198.18.2.2", "198.18.1.2")),
    ("R15", "checksum", no_checksum),
    ("R15", "handshake", edited(MpCapable, 1, flags=0x81)),
    ("R16", "join", never_announced),
    ("R17", "join", same_nonce_twice),
    ("R18", "join", edited(MpJoinSynAck, 0, hmac=bytes(8))),
    ("R19", "join", edited(MpJoinAck, 0, hmac=bytes(20))),
    ("R24", "join", edited(MpJoinSynAck, 1, address_id=1)),
    ("R25", "join_refused", without_option(TcpRst)),
    ("R26", "backup", data_on_backup),
    ("R28", "join", unmap),
    ("R29", "handshake", shifted_mapping(10_000)),
    ("R31", "handshake", data_ack_back),
    ("R31", "handshake", short_data_ack),
    ("R32", "handshake", shifted_mapping(1 << 30)),
    ("R33", "handshake", second_data_fin),
    ("R34", "handshake", shifted_mapping(10_000)),
    ("R35", "handshake", reset_instead_of_fin),
    ("R37", "backup", data_on_backup),
    ("R38", "mp_prio", old_priority),
    ("R39", "add_addr", version_0),
    ("R40", "add_addr", edited(AddAddr, 0, hmac=bytes(8))),
    ("R42", "add_addr", without_option(AddAddr, 1)),
    ("R44", "add_addr", join_on_port(7001)),
    ("R45", "add_addr_port", refused_at_port),
    ("R46", "join_reset", second_attempt),
    ("R49", "fastclose", edited(MpFastclose, 0, receiver_key=1)),
    ("R51", "fastclose", edited(TcpRst, 0, reason=99)),
    ("R51", "fastclose", not_rst(TcpRst)),
    ("R51", "fastclose", edited(TcpRst, 0, reserved=1)),
    ("R52", "fallback_ack", late_option(False)),
    ("R53", "checksum_failure_two", not_rst(MpFail)),
    ("R54", "checksum_failure", finite_mappings),
    ("R54", "checksum_failure", without_option(MpFail, 1)),
    ("R55", "fallback_synack", late_option(True)),
    ("R57", "backup", join_on_port(7001)),
    ("R58", "backup", opened_by_server),
    ("R60", "fast_open", mapped_from_the_syn),
]


def not_sent_again(segments: Segments) -> Segments:
    while again := {each.packet for each in analyse(segments).connections[0].reinjections}:
        segments = [each for each in segments if each.number not in again]
    return segments


def announced_once(segments: Segments) -> Segments:
    first = carrying(segments, AddAddr)
    return [
        each
        for at, each in enumerate(segments)
        if at <= first or not any(isinstance(option, AddAddr) and not option.echo for option in each.options)
    ]


def nothing_removed(segments: Segments) -> Segments:
    return [each for each in segments if not any(isinstance(option, RemoveAddr) for option in each.options)]


# What a session must show for the suite's check to pass: without it, the check fails.
NOT_SHOWN: list[tuple[str, str, Callable[[Segments], Segments]]] = [
    ("R36", "failover", not_sent_again),
    ("R43", "add_addr_again", announced_once),
    ("R47", "remove_addr", nothing_removed),
]


@pytest.mark.parametrize(
    ("alias", "capture", "rewrite"), NOT_SHOWN, ids=lambda value: value if isinstance(value, str) else ""
)
def test_row_is_not_shown(alias: str, capture: str, rewrite: Callable[[Segments], Segments]) -> None:
    right = list(segments_of(named(capture)))
    assert outcomes(alias, right) == {Outcome.OK}
    assert outcomes(alias, rewrite(right)) == {Outcome.NOT_OBSERVED}


@pytest.mark.parametrize(
    ("alias", "capture", "rewrite"), RED, ids=lambda value: value if isinstance(value, str) else ""
)
def test_row_is_red(alias: str, capture: str, rewrite: Callable[[Segments], Segments]) -> None:
    right = list(segments_of(named(capture)))
    assert Outcome.BREACH not in outcomes(alias, right)
    seen = verdict(alias, rewrite(right))
    breaches = [each for each in seen if each.outcome is Outcome.BREACH]
    assert breaches, seen
    assert all(each.packets and each.detail for each in breaches)


def test_every_row_can_be_red_or_says_why_not() -> None:
    red = {alias for alias, _, _ in RED}
    assert red | NEVER_RED.keys() == BY_ALIAS.keys()
    assert not red & NEVER_RED.keys()


def test_every_row_is_green_on_some_capture() -> None:
    green = {
        row.alias
        for path in capture_paths()
        for connection in analysis_of(path).connections
        for row in ROWS
        if row.check(connection).outcome is Outcome.OK
    }
    assert green == BY_ALIAS.keys()


def test_deviations_of_the_real_kernel_are_the_known_ones() -> None:
    """R16: Linux takes an ADD_ADDR for confirmation (check_fully_established in net/mptcp/options.c)."""
    seen = {
        outcome: {
            (row.alias, path.stem)
            for path in capture_paths()
            for connection in analysis_of(path).connections
            for row in ROWS
            if row.check(connection).outcome is outcome
        }
        for outcome in (Outcome.BREACH, Outcome.KNOWN)
    }
    assert seen == {Outcome.BREACH: set(), Outcome.KNOWN: KERNEL_DEVIATIONS}


def test_every_known_deviation_has_its_sentence_in_the_catalogue() -> None:
    """Those that rows report: the kernel's captures show R16, and two odd ones R32 and R42."""
    sentences = {each.claim: each.sentence for each in catalogue.corrections()}
    deviations = {
        row.id
        for path in (*capture_paths(), *ODD.iterdir())
        for connection in analysis_of(path).connections
        for row in ROWS
        if row.check(connection).outcome is Outcome.KNOWN
    }
    assert deviations == {BY_ALIAS[alias].id for alias in ("R16", "R32", "R42")}
    assert all(sentences[each].endswith(".") for each in deviations)


def test_an_add_addr_that_comes_beside_another_may_be_dropped_but_no_other() -> None:
    """Seen of Linux 6.18: of two announcements at once the second has no echo, and the connection ends."""
    segments = list(segments_of(ODD / "add_addr_dropped.pcapng"))
    assert outcomes("R42", segments) == {Outcome.KNOWN}
    echoes = [
        at
        for at, each in enumerate(segments)
        if any(
            isinstance(option, AddAddr) and option.echo and option.address_id == 5 for option in each.options
        )
    ]
    without = [each for at, each in enumerate(segments) if at not in echoes]
    assert echoes and outcomes("R42", without) == {Outcome.BREACH}


def test_rows_are_claims_of_the_catalogue() -> None:
    for row in ROWS:
        claim = catalogue.claims()[row.id]
        assert row.claim is claim
        assert (row.alias, row.level, row.requirement) == (claim.alias, claim.level, claim.text)
    assert [row.alias for row in ROWS] == sorted(BY_ALIAS)
    assert {row.level for row in ROWS} == {Level.MUST, Level.SHOULD}


def statements(source: str) -> Iterator[str]:
    """Yield what a module of rows states although the catalogue has it: texts beside an alias, levels."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "row":
            assert isinstance(node.args[0], ast.Constant)
            if not re.fullmatch(r"R\d\d", node.args[0].value):
                yield node.args[0].value
            others = [*node.args[1:], *(each.value for each in node.keywords)]
            texts = (each for other in others for each in ast.walk(other) if isinstance(each, ast.Constant))
            yield from (each.value for each in texts if isinstance(each.value, str))
        if isinstance(node, ast.Name) and node.id in ("Level", *Level):
            yield node.id


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_no_row_states_a_sentence_or_a_level(path: Path) -> None:
    assert "@row(" in path.read_text()
    assert not list(statements(path.read_text()))


def test_a_row_that_states_them_is_found() -> None:
    source = """@row("3.1/1", MUST, "a sentence", by_address=True)\ndef check(): ..."""
    assert sorted(statements(source)) == ["3.1/1", "MUST", "a sentence"]


@pytest.mark.parametrize(
    ("alias", "sentence"),
    [
        (
            "R62",
            "strange.check: R62 is not an alias in the catalogue; "
            "next: correct the alias, or add the claim to mptcp_lab/catalogue/rfc8684.toml",
        ),
        (
            "R01",
            "strange.check: R01 is registered already, by mptcp_lab.wire.rows.handshake.syn; "
            "next: give each claim one check",
        ),
    ],
)
def test_a_row_outside_the_catalogue_is_refused_at_import(
    alias: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "strange.py").write_text(
        f"from mptcp_lab.wire.rows.requirement import row\n\n@row({alias!r})\ndef check(connection): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(LabError) as refused:
        importlib.import_module("strange")
    assert str(refused.value) == sentence
    assert registered_rows() == ROWS


def test_breach_names_the_packets() -> None:
    connection: Connection = analysis_of(named("join")).connections[0]
    seen = BY_ALIAS["R16"].check(connection)
    join = next(each for each in connection.subflows if each.joined)
    assert join.first_packet in seen.packets
