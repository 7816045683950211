"""Run a user-space MPTCP peer on a host of the lab.

The protocol is in `mptcp_lab.wire.endpoint`. A `Wire` sends and receives its packets on the host, and a
`Subflow` has the peer's side of one subflow.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from secrets import randbits

from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import NeverHappened
from mptcp_lab.suite.packets import first_syns, rows
from mptcp_lab.suite.rfc8684.peer_subflow import Subflow, option_of
from mptcp_lab.suite.rfc8684.peer_wire import Suits, Wire, unused_port
from mptcp_lab.wire import (
    Dss,
    MpCapable,
    MpFastclose,
    MpJoinSynAck,
    MptcpOption,
    RemoveAddr,
    Segment,
    TcpRst,
)
from mptcp_lab.wire.endpoint import Endpoint, Leg
from mptcp_lab.wire.packet import ACK, PSH, RST

#: Options that a host must ignore on a live connection, by row: REMOVE_ADDR with an unknown id, MP_FASTCLOSE
#: with a wrong key, and MP_TCPRST in a packet without RST.
IGNORED: dict[str, Callable[[Endpoint], MptcpOption]] = {
    "R47": lambda _: RemoveAddr((99,)),
    "R50": lambda endpoint: MpFastclose(endpoint.peer ^ 1),
    "R51": lambda _: TcpRst(1),
}


@dataclass
class Reassembly:
    """A stream that arrives in pieces: ``stream`` is what is there without a hole."""

    stream: bytearray = field(default_factory=bytearray)
    held: dict[int, bytes] = field(default_factory=dict)

    def add(self, offset: int, payload: bytes) -> None:
        """Take a piece that begins at an offset of the stream; pieces may come again or overlap."""
        self.held[offset] = max(payload, self.held.get(offset, b""), key=len)
        while found := [each for each in self.held if each <= len(self.stream)]:
            for each in sorted(found):
                self.stream += self.held.pop(each)[len(self.stream) - each :]


def _offset(segment: Segment, subflow: Subflow, begin: int) -> int:
    """Return where a segment's payload is in the other end's stream, whose first DSN is `begin`."""
    mapping = option_of(segment, Dss)
    assert mapping.dsn is not None and mapping.subflow_seq is not None, "data has no mapping"
    ahead = (segment.seq - subflow.peer_isn - mapping.subflow_seq) % (1 << 32)
    return (mapping.dsn + ahead - begin) % (1 << 8 * mapping.dsn_octets)


class Peer:
    """A user-space MPTCP peer on a host, with one connection and any number of subflows.

    When its block ends, it aborts the connection and closes its wires.
    """

    def __init__(self, machine: Machine, flags: int = 0x01) -> None:
        self.machine = machine
        self.endpoint = Endpoint(flags=flags)
        self.tag = uuid.uuid4().hex
        self.subflows: list[Subflow] = []
        self._stack = ExitStack()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.aborts()
        finally:
            self._stack.close()

    def subflow(self, address: str, port: int, source: str) -> Subflow:
        """Return a new subflow of the peer from `source` to `address`, on which no packet was sent yet."""
        wire = self._wire(source)
        leg = Leg(wire.address, wire.port, IPv4Address(address), port)
        return self._add(Subflow(wire, leg, self.endpoint))

    def listens(self, address: str) -> Wire:
        """Return a new wire on a random port of `address`, on which the peer waits for SYNs as a server."""
        return self._wire(address)

    def answers(self, wire: Wire, suits: Suits = lambda _: True) -> tuple[Subflow, Segment]:
        """Wait for a SYN that meets the condition `suits`; return the peer's side of the subflow and the SYN.

        Raises:
            NeverHappened: no such SYN came.
        """
        syn = wire.next(lambda segment: first_syns([segment]) and suits(segment), "a SYN")
        return self._add(Subflow(wire, Leg.from_syn(syn), self.endpoint)), syn

    def connects(self, address: str, port: int, source: str, greeting: bytes = b"") -> Subflow:
        """Open a connection and send the first data, a greeting to the origin; return the first subflow.

        Without a `greeting` it asks the origin to read what the peer sends.
        """
        first = self.subflow(address, port, source)
        first.asks(MpCapable(flags=self.endpoint.flags))
        first.says(ACK, self.endpoint.capable())
        greeting = greeting or f"MPTCPLAB/1 sink {self.tag}\n".encode()
        first.says(PSH | ACK, self.endpoint.first_data(greeting), payload=greeting)
        first.hears_data_ack()
        return first

    def joins(self, address: str, port: int, source: str, address_id: int = 1) -> Subflow:
        """Join a further subflow; return it when the other end has acknowledged the third packet."""
        further = self.subflow(address, port, source)
        nonce = randbits(32)
        answer = further.asks(self.endpoint.join(address_id, nonce), "SYN/ACK of the join")
        further.says(ACK, self.endpoint.join_proof(nonce, option_of(answer, MpJoinSynAck)))
        further.hears(ACK, what="the fourth packet of the join")
        return further

    def reads(self, nbytes: int, within: float) -> bytes:
        """Acknowledge what the other end sends on any subflow, until so many octets are there in order.

        Raises:
            NeverHappened: they did not come within `within` seconds.
        """
        begin, got = self.endpoint.data_ack, Reassembly()
        end = time.monotonic() + within
        while len(got.stream) < nbytes:
            if time.monotonic() >= end:
                raise NeverHappened(f"{nbytes} octets from the other end: {len(got.stream)} came in order")
            for each in self.subflows:
                for segment in each.waiting_data():
                    got.add(_offset(segment, each, begin), segment.payload)
                    self.endpoint.data_ack = begin + len(got.stream)
                    each.says(ACK, self.endpoint.data_ack_option())
        return bytes(got.stream)

    def packets(self) -> list[Segment]:
        """Return every packet that was sent or received, in order of time."""
        wires = {id(each.wire): each.wire for each in self.subflows}
        return sorted((s for wire in wires.values() for s in wire.log), key=lambda s: s.time_ns)

    def acknowledged_beyond(self, dsn: int) -> list[int]:
        """Return the other end's DATA_ACKs that are above a data sequence number of the peer."""
        ours = {each.leg.src for each in self.subflows}
        options = [o for s in self.packets() if s.src not in ours for o in s.options if isinstance(o, Dss)]
        return [
            o.data_ack
            for o in options
            if o.data_ack is not None and 0 < (o.data_ack - dsn) % (1 << 8 * o.data_ack_octets) < 1 << 31
        ]

    def aborts(self) -> None:
        """Send RST on every subflow; on the first one with MP_FASTCLOSE, if the other end's key is known."""
        for number, each in enumerate(self.subflows):
            known = number == 0 and self.endpoint.peer_key is not None
            each.says(RST | ACK, *([self.endpoint.fastclose()] if known else []))

    def _wire(self, address: str) -> Wire:
        return self._stack.enter_context(Wire(self.machine, address, unused_port()))

    def _add(self, subflow: Subflow) -> Subflow:
        self.subflows.append(subflow)
        return subflow


@contextmanager
def peer(machine: Machine, evidence: EvidenceBox, flags: int = 0x01) -> Iterator[Peer]:
    """Run a user-space peer on a host in the block, and keep its packets as evidence."""
    with Peer(machine, flags) as opened:
        try:
            yield opened
        finally:
            packets = opened.packets()
            evidence.packets(rows(packets, machine.name))
