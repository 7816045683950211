"""A user-space peer loses or hurries what ends a connection: R30 R33 R35 R49 R51 R52, and R04 R42."""

from dataclasses import replace

import pytest

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.probe import NewEndpoint, Stream, eventually
from mptcp_lab.probe.streams import Opened
from mptcp_lab.suite.expectations import direct_target
from mptcp_lab.suite.packets import format_segments, mptcp_options
from mptcp_lab.suite.requirements import ORIGIN, TWO_PATHS
from mptcp_lab.suite.rfc8684 import closing
from mptcp_lab.suite.rfc8684.accepting import accept_join
from mptcp_lab.suite.rfc8684.ordinary import wait_for_growth
from mptcp_lab.suite.rfc8684.peer import peer
from mptcp_lab.suite.rfc8684.peer_connections import check_alive, served_client, start_connect
from mptcp_lab.wire import AddAddr, MpCapable, TcpRst
from mptcp_lab.wire.packet import ACK, PSH, RST, SYN

#: Which DATA_FIN of the kernel is lost: of the end that closes first or second, or of one of two at once.
LOST = ("closes-first", "closes-second", "both-close")
#: On which packet MP_FASTCLOSE comes, and whether there is a second subflow, by case.
FASTCLOSES = {"ack": (ACK, False), "rst": (RST | ACK, False), "ack-of-two-subflows": (ACK, True)}
SOME_BYTES, MORE_BYTES, SMALL_WINDOW = 100, 3000, 300
ECHO_TIMEOUT_S = 5.0


@claim("R33", case="lost")
@pytest.mark.parametrize("order", LOST)
def test_data_fin_lost(client: Machine, server: Machine, evidence: EvidenceBox, order: str) -> None:
    """A DATA_FIN that gets no DATA_ACK is sent again, whichever end closes first; then FIN follows."""
    with peer(server, evidence) as wire_server, served_client(client, wire_server) as (_, first, stream):
        if order == "closes-second":
            closing.send_data_fin(first)
            first.hears(ACK, closing.acknowledges_all(wire_server), "DATA_ACK of the DATA_FIN")
        stream.shutdown()
        if order == "both-close":
            closing.hear_data_fin(first)
            first.endpoint.data_ack -= 1  # as if it had not come
            closing.send_data_fin(first)
        closing.lose_data_fin(first)
        if order == "closes-first":
            closing.send_data_fin(first)
        closing.end_subflow(first)


@claim("R33", case="with-first-data", requires=ORIGIN)
def test_data_fin_with_first_data(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """First data under a DSS, without MP_CAPABLE and with the DATA_FIN, is acknowledged with it."""
    target = direct_target(server)
    with peer(client, evidence) as wire_client:
        first = wire_client.subflow(target.address, target.port, client.address(0))
        first.asks(MpCapable())
        first.says(ACK, wire_client.endpoint.capable())
        greeting = f"MPTCPLAB/1 sink {wire_client.tag}\n".encode()
        option = wire_client.endpoint.data(first.leg, greeting, fin=True)
        first.says(PSH | ACK, option, payload=greeting)
        first.hears(ACK, closing.acknowledges_all(wire_client), "DATA_ACK of data and DATA_FIN")


@claim("R35", case="acknowledged-ahead")
def test_acknowledged_ahead(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """A DATA_ACK of the DATA_FIN in a packet that overtakes another one harms nothing: FIN follows."""
    with peer(server, evidence) as wire_server:
        _, first, connecting = start_connect(client, wire_server)
        first.says(SYN | ACK, MpCapable(wire_server.endpoint.key, flags=wire_server.endpoint.flags))
        first.hears(ACK, what="the third packet")
        with Stream(client.probe, connecting.read(Opened)) as stream:
            stream.shutdown()
            closing.hear_data_fin(first)
            closing.say_ahead(first)
            closing.send_data_fin(first)
            closing.end_subflow(first)


@claim("R49", case="received-on")
@pytest.mark.parametrize("packet", FASTCLOSES)
def test_fastclose(client: Machine, server: Machine, evidence: EvidenceBox, packet: str) -> None:
    """MP_FASTCLOSE on an ACK or a RST resets every subflow, and the reader of the connection learns of it."""
    flags, has_two = FASTCLOSES[packet]
    with peer(server, evidence) as wire_server, served_client(client, wire_server) as (wire, first, stream):
        further = accept_join(wire_server, wire) if has_two else None
        first.says(flags, wire_server.endpoint.fastclose())
        for each in [first, further] if flags == ACK else []:
            if each is not None:
                each.hears(RST, what="RST of a subflow")
        closing.check_aborted(stream)


@claim("R51", case="only-subflow")
def test_only_subflow_reset(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """RST with MP_TCPRST ends the only subflow: what comes on it afterwards is answered with RST."""
    before = client.probe.counters()
    with peer(server, evidence) as wire_server, served_client(client, wire_server) as (_, first, _):
        first.says(RST | ACK, TcpRst(1))
        wait_for_growth(client, before, "MPRstRx")
        first.says(ACK)
        first.hears(RST, what="RST of a subflow that has ended")


@claim("R51", case="plain-tcp")
def test_plain_tcp_reset(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """RST with MP_TCPRST ends a connection that has fallen back to TCP."""
    with peer(server, evidence) as wire_server:
        _, first, connecting = start_connect(client, wire_server)
        first.says(SYN | ACK)
        first.hears(ACK, what="the third packet")
        with Stream(client.probe, connecting.read(Opened)) as stream:
            first.says(RST | ACK, TcpRst(1))
            closing.check_aborted(stream)


@claim("R52", case="after-data", requires=ORIGIN)
def test_options_lost_after_data(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """If the client's options are lost after its first data, the server falls back, although it sent some."""
    target = direct_target(server)
    with peer(client, evidence) as wire_client:
        greeting = f"MPTCPLAB/1 duplex {wire_client.tag} bytes={SOME_BYTES} seed=x\n".encode()
        first = wire_client.connects(target.address, target.port, client.address(0), greeting)
        first.hears(ACK, lambda segment: segment.payload_length, "data of the server")
        first.says(ACK)
        first.says(PSH | ACK, payload=bytes(SOME_BYTES))
        answer = first.hears(ACK, lambda segment: segment.ack == first.leg.seq, "ACK of data without options")
        resets = [s for s in first.wire.log if first.leg.is_from_peer(s) and s.flags & RST]
    assert not resets, f"the connection was reset: {format_segments(resets)}"
    assert not mptcp_options(answer), f"MPTCP after a fallback: {format_segments([answer])}"


@claim("R30", case="on-first-subflow")
def test_unmapped_on_first(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """Data without a mapping on the first of two subflows resets that one; the other goes on."""
    with peer(server, evidence) as wire_server, served_client(client, wire_server) as (wire, first, _):
        further = accept_join(wire_server, wire)
        check_alive(further)
        first.says(PSH | ACK, payload=bytes(SOME_BYTES))
        first.hears(RST, what="RST of the first subflow")
        check_alive(further)


@claim("R04", case="closed-window", requires=ORIGIN)
def test_window_closed(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """If the client's window closes after the first exchange, the server probes it, and then goes on."""
    target = direct_target(server)
    with peer(client, evidence) as wire_client:
        greeting = f"MPTCPLAB/1 source {wire_client.tag} bytes={MORE_BYTES} seed=x\n".encode()
        first = wire_client.subflow(target.address, target.port, client.address(0))
        first.asks(MpCapable())
        first.says_with_window(SMALL_WINDOW, ACK, wire_client.endpoint.capable())
        first.says_with_window(
            SMALL_WINDOW, PSH | ACK, wire_client.endpoint.first_data(greeting), payload=greeting
        )
        data = first.hears(ACK, lambda segment: segment.payload_length, "data within the window")
        first.says_with_window(0, ACK, wire_client.endpoint.data_ack_option())
        first.hears(ACK, lambda segment: closing.is_window_probe(first, segment), "a probe of the window")
        closing.read_until(first, MORE_BYTES)
    assert data.payload_length <= SMALL_WINDOW, f"{data.payload_length} octets in a window of {SMALL_WINDOW}"


@claim("R42", case="on-a-new-subflow", requires=TWO_PATHS)
def test_echo_on_new_subflow(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """An echo of an announcement is taken on another subflow too, which came up meanwhile."""
    endpoint = NewEndpoint(client.address(1), ("subflow", "signal"), 7, client.paths[1].device)
    with (
        client.probe.replace_endpoints(endpoint),
        peer(server, evidence) as wire_server,
        served_client(client, wire_server) as (wire, first, _),
    ):
        before = client.probe.counters()
        asked = first.hears(ACK, lambda s: any(isinstance(o, AddAddr) for o in s.options), "an ADD_ADDR")
        option = next(o for o in asked.options if isinstance(o, AddAddr))
        further = accept_join(wire_server, wire)
        further.says(ACK, replace(option, hmac=None))
        eventually(
            lambda: client.probe.counters().delta(before).mptcp("EchoAdd"),
            until=bool,
            within=ECHO_TIMEOUT_S,
            what=f"an echo that {client.name} takes (EchoAdd)",
        )
        check_alive(first)
