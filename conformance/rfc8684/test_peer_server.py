"""Waves 2 and 3: a user-space server sends right and wrong packets to A's kernel.

SYN/ACK: R05 R06 R07 R09. Joins: R21 R22 R23. Data: R27 R30 R56. Other options: R41 R47 R50 R51.
"""

from secrets import randbits, token_bytes

import pytest

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.probe import Stream
from mptcp_lab.probe.streams import Opened
from mptcp_lab.suite.packets import format_segments, mptcp_options
from mptcp_lab.suite.rfc8684.accepting import accept_join, is_proof, wait_for_join
from mptcp_lab.suite.rfc8684.peer import IGNORED, peer
from mptcp_lab.suite.rfc8684.peer_connections import check_alive, served_client, start_connect
from mptcp_lab.suite.rfc8684.peer_subflow import option_of
from mptcp_lab.wire import (
    AddAddr,
    Dss,
    MpCapable,
    MpCapableV0,
    MpJoinSynAck,
    MptcpOption,
)
from mptcp_lab.wire.packet import ACK, PSH, RST, SYN

#: More data than the first subflow's window takes, so that A has some to send on the second one.
MUCH_DATA = 1_000_000

WRONG_SYN_ACKS = {
    "R05": ("no algorithm: flags D to H all zero", MpCapable(randbits(64), flags=0x00)),
    "R06": ("flag B", MpCapable(randbits(64), flags=0x41)),
    "R07": ("version 0", MpCapableV0(sender_key=randbits(64))),
    "R09": ("no MP_CAPABLE", None),
}


@pytest.mark.parametrize(
    ("why", "option"),
    [pytest.param(*said, marks=claim(row, case="answer"), id=row) for row, said in WRONG_SYN_ACKS.items()],
)
def test_wrong_syn_ack(
    client: Machine, server: Machine, evidence: EvidenceBox, why: str, option: MptcpOption | None
) -> None:
    """After a SYN/ACK that does not offer this version of MPTCP, the client's next packets are plain TCP."""
    with peer(server, evidence) as wire_server:
        _, first, connecting = start_connect(client, wire_server)
        first.says(SYN | ACK, *([option] if option else []))
        with Stream(client.probe, connecting.read(Opened)) as stream:
            third = first.hears(ACK, what="the third packet")
            stream.send(100)
            data = first.hears(ACK, lambda segment: segment.payload_length, "data")
            stream.close(reset=True)
    assert not [*mptcp_options(third), *mptcp_options(data)], f"after {why}: {format_segments([third, data])}"


WRONG_ANSWERS: dict[str, tuple[MptcpOption, ...]] = {
    "R21": (MpJoinSynAck(0, token_bytes(8), randbits(32)),),
    "R23": (),
}


@pytest.mark.parametrize(
    "answer",
    [pytest.param(answer, marks=claim(row, case="answer"), id=row) for row, answer in WRONG_ANSWERS.items()],
)
def test_wrong_answer_to_join(
    client: Machine, server: Machine, evidence: EvidenceBox, answer: tuple[MptcpOption, ...]
) -> None:
    """A join answered with a wrong HMAC, or without MP_JOIN, is reset; the connection survives."""
    with peer(server, evidence) as wire_server, served_client(client, wire_server) as (wire, first, _):
        further, _ = wait_for_join(wire_server, wire)
        further.says(SYN | ACK, *answer)
        further.hears(RST, what="RST of the join")
        check_alive(first)


@claim("R22")
def test_fourth_packet_lost(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """A join's third packet is sent again until the fourth arrives, and data is sent only after that."""
    with peer(server, evidence) as wire_server, served_client(client, wire_server) as (wire, _, stream):
        further, asked = wait_for_join(wire_server, wire)
        further.says(SYN | ACK, wire_server.endpoint.join_answer(asked, 0, randbits(32)))
        stream.send(MUCH_DATA)
        further.hears(ACK, is_proof, "the third packet of the join")
        further.hears(ACK, is_proof, "the third packet once more")
        early = [s for s in wire.log if further.leg.is_from_peer(s) and s.payload_length]
        further.says(ACK, wire_server.endpoint.data_ack_option())
        further.hears(ACK, lambda segment: segment.payload_length, "data on the new subflow")
    assert not early, f"data before the fourth packet: {format_segments(early)}"


@claim("R27", case="by-server")
@pytest.mark.parametrize("negotiated", [True, False], ids=["missing", "unasked"])
def test_checksum_as_negotiated(
    client: Machine, server: Machine, evidence: EvidenceBox, negotiated: bool
) -> None:
    """A mapping without the negotiated checksum, or with one that was not negotiated, closes its subflow."""
    with (
        peer(server, evidence, flags=0x81 if negotiated else 0x01) as wire_server,
        served_client(client, wire_server) as (wire, first, _),
    ):
        further, end = accept_join(wire_server, wire), wire_server.endpoint
        checksum = None if negotiated else 0x1234
        further.says(PSH | ACK, Dss(end.data_ack, end.dsn, 1, 10, checksum), payload=token_bytes(10))
        further.hears(RST, what="RST of the subflow")
        check_alive(first)


@claim("R30", case="by-server")
def test_unmapped_data(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """Data without a mapping on a further subflow is not delivered: the subflow is reset."""
    with peer(server, evidence) as wire_server, served_client(client, wire_server) as (wire, first, _):
        further = accept_join(wire_server, wire)
        further.says(PSH | ACK, payload=token_bytes(10))
        further.hears(RST, what="RST of the subflow")
        check_alive(first)


@claim("R41", case="by-server")
def test_wrong_hmac_of_address(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """An ADD_ADDR with a wrong HMAC is ignored: only the right one is echoed."""
    with peer(server, evidence) as wire_server, served_client(client, wire_server) as (_, first, _):
        first.says(ACK, AddAddr(7, first.leg.src, hmac=token_bytes(8)))
        first.says(ACK, wire_server.endpoint.add_addr(8, first.leg.src))
        echo = first.hears(
            ACK, lambda s: any(isinstance(o, AddAddr) and o.echo for o in s.options), "an echo"
        )
        check_alive(first)
    assert option_of(echo, AddAddr).address_id == 8, f"the wrong one was echoed: {format_segments([echo])}"


@pytest.mark.parametrize(
    "row", [pytest.param(row, marks=claim(row, case="ignored-by-client"), id=row) for row in IGNORED]
)
def test_ignored(client: Machine, server: Machine, evidence: EvidenceBox, row: str) -> None:
    """REMOVE_ADDR of an unknown id, MP_FASTCLOSE with wrong key and MP_TCPRST without RST have no effect."""
    with peer(server, evidence) as wire_server, served_client(client, wire_server) as (_, first, _):
        first.says(ACK, IGNORED[row](wire_server.endpoint))
        check_alive(first)


@claim("R56", case="by-server")
def test_data_outside_window(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """Data beyond the receive window is dropped: no DATA_ACK covers it, and the stream goes on without it."""
    with peer(server, evidence) as wire_server, served_client(client, wire_server) as (_, first, _):
        first.says_beyond_window()
        check_alive(first)
    beyond = wire_server.acknowledged_beyond(wire_server.endpoint.dsn)
    assert not beyond, f"DATA_ACKs of data beyond the window: {beyond}"
