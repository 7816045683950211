"""Test keys against values of other programs: tokens of kernel and tshark, HMACs and checksums sent."""

from __future__ import annotations

import json
from pathlib import Path

from mptcp_lab.wire import (
    AddAddr,
    Dss,
    MpCapable,
    MpJoinAck,
    MpJoinSyn,
    MpJoinSynAck,
    Segment,
    ack_hmac,
    add_addr_hmac,
    dss_checksum,
    idsn,
    syn_ack_hmac,
    token,
)
from tests.wire.conftest import CAPTURES, analysis_of, named, segments_of
from tests.wire.tshark import fields, numbers

KERNEL_TOKENS = json.loads((CAPTURES / "kernel_tokens.json").read_text())


def options(name: str, kind: type) -> list[tuple[Segment, object]]:
    return [
        (each, option)
        for each in segments_of(named(name))
        for option in each.options
        if isinstance(option, kind)
    ]


def keys_of(name: str) -> tuple[int, int]:
    connection = analysis_of(named(name)).connections[0]
    assert connection.client.key is not None
    assert connection.server.key is not None
    return connection.client.key, connection.server.key


def test_tokens_are_those_of_the_kernel() -> None:
    """MPTCP_INFO gives the token this end uses to name the connection: of its own key."""
    assert KERNEL_TOKENS
    for name, (client, server) in KERNEL_TOKENS.items():
        assert [token(key) for key in keys_of(name)] == [client, server]


def test_tokens_and_initial_dsns_are_those_of_tshark(capture: Path) -> None:
    names = ("tcp.options.mptcp.sendkey", "mptcp.expected_token", "mptcp.expected_idsn")
    for row in fields(capture):
        keys, tokens, idsns = (numbers(row, name) for name in names)
        for key, expected in zip(keys, tokens, strict=False):
            assert token(key) == expected
        for key, expected in zip(keys, idsns, strict=False):
            assert idsn(key) == expected


def test_hmacs_of_a_join() -> None:
    client, server = keys_of("join_server_side")
    (_, syn), (_, syn_ack), (_, ack) = (
        options("join_server_side", kind)[0] for kind in (MpJoinSyn, MpJoinSynAck, MpJoinAck)
    )
    assert isinstance(syn, MpJoinSyn)
    assert isinstance(syn_ack, MpJoinSynAck)
    assert isinstance(ack, MpJoinAck)
    assert syn.token == token(server)
    assert syn_ack.hmac == syn_ack_hmac(server, client, syn_ack.nonce, syn.nonce)
    assert ack.hmac == ack_hmac(client, server, syn.nonce, syn_ack.nonce)


def test_hmacs_of_announcements() -> None:
    for name in ("add_addr", "add_addr_port", "add_addr_v6", "add_addr_v6_port"):
        client, server = keys_of(name)
        (_, announced), *_ = options(name, AddAddr)
        assert isinstance(announced, AddAddr)
        assert announced.hmac == add_addr_hmac(
            server, client, announced.address_id, announced.address, announced.port
        )


def test_checksums_of_the_kernel() -> None:
    """The capture has the payload: every checksum is right; DATA_FIN adds to the length, not an octet."""
    client, server = keys_of("checksum")
    verified = with_fin = 0
    for segment, option in options("checksum", Dss):
        assert isinstance(option, Dss)
        if option.checksum is None:
            continue
        assert option.dsn is not None and option.subflow_seq is not None and option.data_length is not None
        dsn = option.dsn
        if option.dsn_octets == 4:
            base = idsn(client if segment.dport == 7000 else server)
            dsn = base & ~0xFFFFFFFF | dsn
        assert option.data_length - option.data_fin == segment.payload_length
        assert dss_checksum(dsn, option.subflow_seq, option.data_length, segment.payload) == option.checksum
        verified += 1
        with_fin += option.data_fin
    for segment, option in options("checksum", MpCapable):
        assert isinstance(option, MpCapable)
        if option.checksum is not None and option.data_length is not None:
            assert dss_checksum(idsn(client) + 1, 1, option.data_length, segment.payload) == option.checksum
            verified += 1
    assert verified >= 10
    assert with_fin >= 2
