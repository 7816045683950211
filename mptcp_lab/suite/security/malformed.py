"""Send malformed options and wrong lengths to a kernel, as a client, and as a server that it connects to."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import IPv4Address
from random import Random

from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import ProbeError, Stream
from mptcp_lab.probe.streams import Opened
from mptcp_lab.suite.rfc8684.peer import Peer
from mptcp_lab.suite.rfc8684.peer_connections import served_client, start_connect
from mptcp_lab.suite.rfc8684.peer_subflow import Subflow
from mptcp_lab.suite.security.forging import Forger
from mptcp_lab.suite.security.fuzzing import make_malformed, make_random, well_formed, with_header_length
from mptcp_lab.suite.traffic import Target
from mptcp_lab.wire import MpCapable, MptcpOption
from mptcp_lab.wire.endpoint import Leg
from mptcp_lab.wire.packet import ACK, FIN, PSH, RST, SYN

#: Malformed options that are sent in SYNs, and on each connection.
SYNS = 78
ON_EACH_CONNECTION = 30
#: Connections that share the forms of options, since many a malformed one ends its connection.
CONNECTIONS = 4
#: Handshakes that end with a malformed third packet.
THIRD_PACKETS, THIRD_PACKETS_OF_JOINS = 3, 2
#: Connections of a client that a malformed SYN/ACK answers.
ANSWERS = 3
#: Lengths of a TCP header that are shorter than the header, and longer than the packet.
HEADER_WORDS = (0, 1, 4, 15)
FLAGS = (ACK, ACK | PSH, ACK | FIN, ACK | RST)
PORTS = range(30_000, 60_000)
PAYLOAD = bytes(100)


def attack_listener(attacker: Machine, forger: Forger, target: Target) -> int:
    """Send malformed packets in each phase of a connection to a listener; return how many."""
    chance = make_random()
    _malformed_syns(chance, forger, target)
    sent = SYNS
    for forms in _shares():
        with Peer(attacker) as opened:
            first = opened.connects(target.address, target.port, attacker.address(0))
            sent += _malformed_segments(chance, first, forms)
    for option in make_malformed(chance, (MpCapable(1, 2), *well_formed()), THIRD_PACKETS):
        with Peer(attacker) as opened:
            asking = opened.subflow(target.address, target.port, attacker.address(0))
            asking.asks(MpCapable())
            asking.says(ACK, option)
            asking.says(ACK | PSH, option, payload=PAYLOAD)
    with Peer(attacker) as opened:
        opened.connects(target.address, target.port, attacker.address(0))
        for option in make_malformed(chance, well_formed()[3:5], THIRD_PACKETS_OF_JOINS):
            joining = opened.subflow(target.address, target.port, attacker.address(0))
            joining.asks(opened.endpoint.join(1, chance.getrandbits(32)), "SYN/ACK of the join")
            joining.says(ACK, option)
    return sent + 2 * THIRD_PACKETS + THIRD_PACKETS_OF_JOINS


def attack_client(attacker: Machine, client: Machine) -> int:
    """Answer a client's connections with malformed packets; return how many."""
    chance, sent = make_random(), 0
    for option in make_malformed(chance, (MpCapable(1), *well_formed()), ANSWERS):
        with Peer(attacker) as opened:
            _, first, connecting = start_connect(client, opened)
            first.says(SYN | ACK, option)
            sent += 1
            # The client may refuse such an answer, or take the server for one without MPTCP.
            with suppress(ProbeError), Stream(client.probe, connecting.read(Opened)) as stream:
                stream.close(reset=True)
    for forms in _shares():
        with Peer(attacker) as opened, served_client(client, opened) as (_, first, _stream):
            sent += _malformed_segments(chance, first, forms)
    return sent


def _malformed_syns(chance: Random, forger: Forger, target: Target) -> None:
    for option in make_malformed(chance, well_formed(), SYNS):
        leg = Leg(forger.wire.address, chance.choice(PORTS), IPv4Address(target.address), target.port)
        forger.sends(leg.segment(SYN, option))


def _shares() -> list[tuple[MptcpOption, ...]]:
    """Return the forms of options that are sent on each connection."""
    return [well_formed()[number::CONNECTIONS] for number in range(CONNECTIONS)]


def _malformed_segments(chance: Random, first: Subflow, forms: tuple[MptcpOption, ...]) -> int:
    """Send malformed options of these forms on a connection, with data or without, and wrong lengths."""
    for words in HEADER_WORDS:
        first.wire.send_packet(with_header_length(first.leg.segment(ACK, forms[0]), words))
    for option in make_malformed(chance, forms, ON_EACH_CONNECTION):
        payload = PAYLOAD if chance.randrange(2) else b""
        first.says(ACK | PSH if payload else ACK, option, payload=payload)
    for flags in FLAGS:
        first.says(flags, forms[-1])
    return len(HEADER_WORDS) + ON_EACH_CONNECTION + len(FLAGS)
