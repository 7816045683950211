"""Flood a listener with half-open connections or half-open joins, a bounded number of them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from secrets import randbits

from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import eventually
from mptcp_lab.suite.expectations import expected_pairs, wait_for_joins
from mptcp_lab.suite.packets import tcp_capture
from mptcp_lab.suite.proxy.balancing import begin
from mptcp_lab.suite.proxy.remains import nothing_remains
from mptcp_lab.suite.security.forging import Forger, forging_packets
from mptcp_lab.suite.security.harm import damage_of
from mptcp_lab.suite.security.joins import join_again
from mptcp_lab.suite.security.overhearing import overheard_join
from mptcp_lab.suite.traffic import Target
from mptcp_lab.wire import MpCapable, MpJoinSyn, MptcpOption, Segment
from mptcp_lab.wire.endpoint import Leg
from mptcp_lab.wire.packet import SYN

#: SYNs of one flood, each from another port.
FLOOD = 256
FIRST_PORT = 30_000
#: Short connections of the legitimate client during a flood, and the time in which all have to be served.
CLIENTS = 20
SERVED_WITHIN_SECONDS = 5.0
#: A kernel that repeats no SYN/ACK gives up a half-open connection when its timer expires next: up to
#: 8 s later where the connection is 7 s old, and up to 16 s where it is 15 s old, as on a busy machine.
GIVEN_UP_WITHIN_SECONDS = 30.0
#: The faults of a flood outlast all waits of its check.
FAULTS_LAST_S = 4 * GIVEN_UP_WITHIN_SECONDS


@dataclass(frozen=True)
class Flood:
    """The option of a flood's SYNs, made from overheard packets, and the server's counter of them."""

    option: Callable[[list[Segment]], MptcpOption]
    counter: str


def _join_with_valid_token(overheard: list[Segment]) -> MptcpOption:
    """Return the MP_JOIN of an overheard SYN, whose token is valid, with another nonce."""
    syn, _ = overheard_join(overheard)
    (asked,) = (option for option in syn.options if isinstance(option, MpJoinSyn))
    return MpJoinSyn(asked.address_id, asked.token, randbits(32))


FLOODS = {
    "MP_CAPABLE": Flood(lambda _: MpCapable(), "MPCapableSYNRX"),
    "MP_JOIN": Flood(_join_with_valid_token, "MPJoinSynRx"),
}


@contextmanager
def flooder(attacker: Machine, target: Target, evidence: EvidenceBox) -> Iterator[Forger]:
    """Let an attacker forge packets whose answers its own kernel does not reset."""
    with (
        attacker.probe.fault("drop", ttl=FAULTS_LAST_S, source=target.address),
        forging_packets(attacker, 0, evidence) as forger,
    ):
        yield forger


def send_flood(
    forger: Forger, target: Target, flood: Flood, overheard: list[Segment], evidence: EvidenceBox
) -> None:
    """Send a flood's SYNs, check that the server has counted them, and keep rate and gauges as evidence."""
    probe, begun = target.machine.probe, time.monotonic()
    before = probe.counters()
    for port in range(FIRST_PORT, FIRST_PORT + FLOOD):
        leg = Leg(forger.wire.address, port, IPv4Address(target.address), target.port)
        forger.sends(leg.segment(SYN, flood.option(overheard)))
    evidence.figure("SYNs of the flood per second", round(FLOOD / (time.monotonic() - begun)))
    what = f"{flood.counter} at {target.machine.name}, of {FLOOD} SYNs"
    eventually(
        lambda: probe.counters().delta(before).mptcp(flood.counter),
        until=lambda counted: counted >= FLOOD,
        within=2.0,
        what=what,
    )
    evidence.figure("half-open connections in the flood", count_half_open(target))
    evidence.document("memory of TCP in the flood", _memory(target.machine))


def count_half_open(target: Target) -> int:
    """Return how many connections of the flood wait for the third packet of their handshake.

    What an earlier check left half-open is older, so the kernel may keep it for longer.
    """
    ports = range(FIRST_PORT, FIRST_PORT + FLOOD)
    return sum(socket.state == "SYN-RECV" and socket.rport in ports for socket in target.far_end.sockets())


def check_serves_many(client: Machine, target: Target, evidence: EvidenceBox) -> None:
    """Check that short connections of a legitimate client, one after another, are answered with MPTCP."""
    to = (target.address, target.port, uuid.uuid4().hex, CLIENTS)
    served = begin(client, *to, within=SERVED_WITHIN_SECONDS).wait()
    evidence.figure("connections served in the flood", served.completed)
    evidence.figure("seconds that they took", round(served.seconds, 2))
    found = f"{served.completed} were served, {served.mptcp} with MPTCP: {dict(served.failed)}"
    assert (served.completed, served.mptcp) == (CLIENTS, CLIENTS), f"of {CLIENTS} connections {found}"


@contextmanager
def giving_up(target: Target, evidence: EvidenceBox) -> Iterator[None]:
    """Let the server's kernel repeat no SYN/ACK in the block, and wait until none is half-open."""
    setting = "net.ipv4.tcp_synack_retries"
    with target.machine.probe.fault("sysctl", ttl=FAULTS_LAST_S, name=setting, value=0):
        yield
        eventually(
            lambda: count_half_open(target),
            until=lambda number: not number,
            within=GIVEN_UP_WITHIN_SECONDS,
            what=f"half-open connections at {target.machine.name} after the flood",
        )
    evidence.document("memory of TCP after the flood", _memory(target.machine))


def _memory(machine: Machine) -> str:
    """Return the kernel's line about TCP sockets and the pages of memory that they use."""
    lines = machine.probe.run(["cat", "/proc/net/sockstat"]).stdout.splitlines()
    return next((line for line in lines if line.startswith("TCP:")), "")


def check_flood(
    client: Machine, attacker: Machine, target: Target, flood: str, evidence: EvidenceBox
) -> None:
    """Check that a flood keeps no client of a listener out, and that no socket of it remains."""
    expected = expected_pairs(client, target.machine)
    with (
        nothing_remains((target.machine,), evidence),
        tcp_capture(client, target.port) as capture,
        target.flow(client) as data,
        flooder(attacker, target, evidence) as forger,
    ):
        transfer = data.start()
        wait_for_joins(data, expected)
        send_flood(forger, target, FLOODS[flood], capture.stop(), evidence)
        check_serves_many(client, target, evidence)
        with giving_up(target, evidence):
            joined = join_again(client, data, expected)
            damage = damage_of(data, transfer)
    joined.check_exact(4)
    assert not damage, damage
