"""Wave 3: a user-space client sends right and wrong packets to B's kernel and the proxies' listeners.

Handshake: R04 R05 R06 R07 R10 R14. Joins: R20 R21 R23. Data: R27 R30 R56. Other options: R41 R47 R50 R51.
"""

from dataclasses import replace
from secrets import randbits, token_bytes

import pytest

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.probe import NewEndpoint
from mptcp_lab.suite.expectations import direct_target
from mptcp_lab.suite.packets import format_segments, joins, mptcp_options
from mptcp_lab.suite.requirements import ORIGIN, SERVER_TWO_PATHS, TWO_PATHS
from mptcp_lab.suite.rfc8684.peer import IGNORED, Peer, peer
from mptcp_lab.suite.rfc8684.peer_connections import check_alive, talks_to
from mptcp_lab.suite.rfc8684.peer_subflow import Subflow, option_of
from mptcp_lab.suite.traffic import Target
from mptcp_lab.wire import (
    AddAddr,
    Dss,
    MpCapable,
    MpCapableV0,
    MpJoinAck,
    MpJoinSyn,
    MptcpOption,
    RemoveAddr,
    Segment,
    TcpRst,
)
from mptcp_lab.wire.packet import ACK, FIN, PSH, RST, SYN

REFUSED_SYNS = {
    "R05": ("no algorithm: flags D to H all zero", MpCapable(flags=0x00)),
    "R06": ("flag B", MpCapable(flags=0x41)),
    "R07": ("version 0", MpCapableV0(sender_key=randbits(64))),
}
#: Flags of MP_CAPABLE: no further subflow to this address and port; HMAC-SHA256.
FLAG_C, FLAG_H = 0x20, 0x01
#: Changes of the client's MP_CAPABLE after its SYN, by row. GATEWAY-7 clears flag H there, for R05.
CHANGED_THIRD_PACKETS = {"R06": {"flags": 0x41}, "R07": {"version": 2}}


def unused_subflow(opened: Peer, target: Target) -> Subflow:
    """Return a subflow from A-1 to a target, on which no SYN was sent yet."""
    return opened.subflow(target.machine.address(), target.port, opened.machine.address(0))


@pytest.mark.parametrize(
    ("why", "option"),
    [pytest.param(*asked, marks=claim(row, case="peer"), id=row) for row, asked in REFUSED_SYNS.items()],
)
def test_refused_syn(
    client: Machine, target: Target, evidence: EvidenceBox, why: str, option: MptcpOption
) -> None:
    """A SYN whose MP_CAPABLE asks for a feature that this version lacks is answered as plain TCP."""
    with peer(client, evidence) as wire_client:
        first = unused_subflow(wire_client, target)
        first.says(SYN, option)
        answer = first.hears(SYN | ACK, what="SYN/ACK")
    assert not mptcp_options(answer), f"{why} was answered with {format_segments([answer])}"


@claim("R07", case="version-2")
def test_later_version(client: Machine, target: Target, evidence: EvidenceBox) -> None:
    """A SYN of version 2 is answered with version 1, or as plain TCP: never with version 2."""
    with peer(client, evidence) as wire_client:
        first = unused_subflow(wire_client, target)
        first.says(SYN, MpCapable(version=2))
        answer = first.hears(SYN | ACK, what="SYN/ACK")
    others = [o for o in mptcp_options(answer) if not isinstance(o, MpCapable) or o.version != 1]
    assert not others, f"the answer has other options: {format_segments([answer])}"


@claim("R04", case="third-packet-lost")
def test_third_packet_lost(client: Machine, target: Target, evidence: EvidenceBox) -> None:
    """Data with both keys replaces a third packet that was lost: it is acknowledged as MPTCP."""
    with peer(client, evidence) as wire_client:
        first = unused_subflow(wire_client, target)
        first.says(SYN, MpCapable())
        first.hears(SYN | ACK, what="SYN/ACK")
        greeting = f"MPTCPLAB/1 sink {wire_client.tag}\n".encode()
        first.says(PSH | ACK, wire_client.endpoint.first_data(greeting), payload=greeting)
        first.hears_data_ack()


@claim("R10", case="peer")
def test_third_packet_without_option(client: Machine, target: Target, evidence: EvidenceBox) -> None:
    """After a third packet and data without MPTCP the server sends no MPTCP option."""
    with peer(client, evidence) as wire_client:
        first = unused_subflow(wire_client, target)
        first.says(SYN, MpCapable())
        first.hears(SYN | ACK, what="SYN/ACK")
        first.says(ACK)
        first.says(PSH | ACK, payload=f"MPTCPLAB/1 sink {wire_client.tag}\n".encode())
        answer = first.hears(ACK, lambda segment: segment.ack == first.leg.seq, "ACK of the data")
    assert not mptcp_options(answer), f"MPTCP after plain TCP: {format_segments([answer])}"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(change, marks=claim(row, case="third-packet"), id=row)
        for row, change in CHANGED_THIRD_PACKETS.items()
    ],
)
def test_changed_third_packet(
    client: Machine, target: Target, evidence: EvidenceBox, change: dict[str, int]
) -> None:
    """After a third packet and data with flag B or version 2 the server sends no MPTCP option."""
    with peer(client, evidence) as wire_client:
        first = unused_subflow(wire_client, target)
        first.asks(MpCapable())
        first.says(ACK, replace(wire_client.endpoint.capable(), **change))
        greeting = f"MPTCPLAB/1 sink {wire_client.tag}\n".encode()
        data = replace(wire_client.endpoint.first_data(greeting), **change)
        first.says(PSH | ACK, data, payload=greeting)
        answer = first.hears(ACK, lambda segment: segment.ack == first.leg.seq, "ACK of the data")
    assert not mptcp_options(answer), f"MPTCP after {change}: {format_segments([answer])}"


@claim("R14", case="by-client", requires=(ORIGIN, TWO_PATHS, SERVER_TWO_PATHS))
def test_client_forbids_joins(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """If the client sets flag C, the server joins an announced address of it, and not its first address."""
    with (
        server.probe.replace_endpoints() as endpoints,
        server.probe.fault("limits", subflows=8, add_addr_accepted=8),
        peer(client, evidence, flags=FLAG_C | FLAG_H) as wire_client,
    ):
        first = talks_to(wire_client, direct_target(server))
        endpoints.add(NewEndpoint(server.address(1), ("subflow",)))
        check_alive(first)
        announced = wire_client.listens(client.address(1))
        first.says(ACK, wire_client.endpoint.add_addr(1, announced.address, announced.port))
        wire_client.answers(announced, lambda syn: joins([syn]))
        check_alive(first)
    early = joins(first.wire.log)
    assert not early, f"joins to the first address: {format_segments(early)}"


@claim("R20")
def test_unknown_token(client: Machine, target: Target, evidence: EvidenceBox) -> None:
    """A join with an unknown token is answered with a RST that gives a reason, not with a SYN/ACK."""
    before = target.machine.probe.counters()
    with peer(client, evidence) as wire_client:
        first = unused_subflow(wire_client, target)
        first.says(SYN, MpJoinSyn(1, randbits(32), randbits(32)))
        answer = first.hears(RST, what="RST")
    reason = option_of(answer, TcpRst).reason_name
    assert reason in ("MPTCP-specific error", "administratively prohibited"), (
        f"the reset: {format_segments([answer])}"
    )
    unknown = target.machine.probe.counters().delta(before).mptcp("MPJoinNoTokenFound")
    assert unknown == 1, f"joins with an unknown token that {target.machine.name} counted: {unknown}"


@claim("R21", case="third-packet")
def test_wrong_proof(client: Machine, target: Target, evidence: EvidenceBox) -> None:
    """A join whose third packet has a wrong HMAC is reset, and the connection survives."""
    with peer(client, evidence) as wire_client:
        first = talks_to(wire_client, target)
        _join_ends_with(wire_client, target, MpJoinAck(token_bytes(20)))
        check_alive(first)


@claim("R23", case="third-packet")
def test_no_proof(client: Machine, target: Target, evidence: EvidenceBox) -> None:
    """A join whose third packet has no MP_JOIN is reset, and the connection survives."""
    with peer(client, evidence) as wire_client:
        first = talks_to(wire_client, target)
        _join_ends_with(wire_client, target)
        check_alive(first)


def _join_ends_with(wire_client: Peer, target: Target, *third: MptcpOption) -> Segment:
    """Join from A-2 with this third packet, and return the RST that answers it."""
    further = wire_client.subflow(target.machine.address(), target.port, wire_client.machine.address(1))
    further.says(SYN, wire_client.endpoint.join(1, randbits(32)))
    further.hears(SYN | ACK, what="SYN/ACK of the join")
    further.says(ACK, *third)
    return further.hears(RST, what="RST of the join")


@claim("R27")
@pytest.mark.parametrize("negotiated", [True, False], ids=["missing", "unasked"])
def test_checksum_as_negotiated(
    client: Machine, target: Target, evidence: EvidenceBox, negotiated: bool
) -> None:
    """A mapping without the negotiated checksum, or with one that was not negotiated, closes its subflow."""
    with peer(client, evidence, flags=0x81 if negotiated else 0x01) as wire_client:
        first = talks_to(wire_client, target)
        further = wire_client.joins(target.machine.address(), target.port, client.address(1))
        checksum = None if negotiated else 0x1234
        mapping = Dss(wire_client.endpoint.data_ack, wire_client.endpoint.dsn, further.leg.ssn, 10, checksum)
        further.says(PSH | ACK, mapping, payload=token_bytes(10))
        further.hears(RST, what="RST of the subflow")
        check_alive(first)


@claim("R30")
def test_unmapped_data(client: Machine, target: Target, evidence: EvidenceBox) -> None:
    """Data without a mapping on a further subflow is not delivered: the subflow is reset."""
    with peer(client, evidence) as wire_client:
        first = talks_to(wire_client, target)
        further = wire_client.joins(target.machine.address(), target.port, client.address(1))
        further.says(PSH | ACK, payload=token_bytes(10))
        further.hears(RST, what="RST of the subflow")
        check_alive(first)


@claim("R41")
def test_wrong_hmac_of_address(client: Machine, target: Target, evidence: EvidenceBox) -> None:
    """An ADD_ADDR with a wrong HMAC is ignored: only the right one is echoed."""
    with peer(client, evidence) as wire_client:
        first = talks_to(wire_client, target)
        address = first.leg.src
        first.says(ACK, AddAddr(7, address, hmac=token_bytes(8)))
        first.says(ACK, wire_client.endpoint.add_addr(8, address))
        echo = first.hears(
            ACK, lambda s: any(isinstance(o, AddAddr) and o.echo for o in s.options), "an echo"
        )
        check_alive(first)
    assert option_of(echo, AddAddr).address_id == 8, f"the wrong one was echoed: {format_segments([echo])}"


@pytest.mark.parametrize(
    "row", [pytest.param(row, marks=claim(row, case="ignored"), id=row) for row in IGNORED]
)
def test_ignored(client: Machine, target: Target, evidence: EvidenceBox, row: str) -> None:
    """REMOVE_ADDR of an unknown id, MP_FASTCLOSE with wrong key and MP_TCPRST without RST have no effect."""
    with peer(client, evidence) as wire_client:
        first = talks_to(wire_client, target)
        first.says(ACK, IGNORED[row](wire_client.endpoint))
        check_alive(first)


@claim("R47", case="several-ids", requires=TWO_PATHS)
def test_several_removed(client: Machine, target: Target, evidence: EvidenceBox) -> None:
    """One REMOVE_ADDR with two known ids and an unknown one closes both subflows; the connection survives."""
    with peer(client, evidence) as wire_client:
        first, to = talks_to(wire_client, target), (target.machine.address(), target.port)
        further = [wire_client.joins(*to, client.address(1), address_id) for address_id in (1, 2)]
        first.says(ACK, RemoveAddr((1, 99, 2)))
        for each in further:
            each.hears(FIN | ACK, what="FIN of a removed subflow")
        check_alive(first)


@claim("R56")
def test_data_outside_window(client: Machine, target: Target, evidence: EvidenceBox) -> None:
    """Data beyond the receive window is dropped: no DATA_ACK covers it, and the stream goes on without it."""
    with peer(client, evidence) as wire_client:
        first = talks_to(wire_client, target)
        first.says_beyond_window()
        check_alive(first)
    beyond = wire_client.acknowledged_beyond(wire_client.endpoint.dsn)
    assert not beyond, f"DATA_ACKs of data beyond the window: {beyond}"
