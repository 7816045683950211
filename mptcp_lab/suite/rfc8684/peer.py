"""Run a user-space MPTCP peer on a host of the lab.

The protocol is in `mptcp_lab.wire.endpoint`. The classes here send and receive its packets on the host.
"""

from __future__ import annotations

import base64
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from itertools import cycle
from random import sample
from secrets import randbits, token_bytes
from typing import TypeVar

from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import NeverHappened, Pending, Stream
from mptcp_lab.probe.shapes import Misshapen, read_as
from mptcp_lab.probe.streams import Opened
from mptcp_lab.suite.packets import first_syns, format_segments, rows
from mptcp_lab.suite.traffic import Target
from mptcp_lab.wire import (
    Dss,
    MpCapable,
    MpFastclose,
    MpJoinSynAck,
    MptcpOption,
    RemoveAddr,
    Segment,
    TcpRst,
    build_packet,
    parse_segment,
)
from mptcp_lab.wire.codec import Option
from mptcp_lab.wire.endpoint import Endpoint, Leg
from mptcp_lab.wire.packet import ACK, FIN, PSH, RAW, RST, SYN

HEARD_WITHIN_SECONDS = 5.0
#: A SYN is sent again after this time (RFC 6298, 2.1), since a port that was just plugged in loses the first
#: one. Data without a DATA_ACK is sent again too, since an ADD_ADDR in the acknowledgement leaves no room for
#: a DATA_ACK.
RETRANSMIT_SECONDS = 1.0
#: How long to wait for data on one subflow before the next one gets its turn.
DATA_WAIT_SECONDS = 0.02
#: Ports below the range from which kernels choose (net.ipv4.ip_local_port_range).
PORTS = range(20000, 30000)
#: The ports in an order that begins anywhere: a port that an earlier peer of this run used may still have a
#: connection at the other end, which answers its SYN by an ACK.
_UNUSED = cycle(sample(PORTS, len(PORTS)))
#: Options that a host must ignore on a live connection, by row: REMOVE_ADDR with an unknown id, MP_FASTCLOSE
#: with a wrong key, and MP_TCPRST in a packet without RST.
IGNORED: dict[str, Callable[[Endpoint], MptcpOption]] = {
    "R47": lambda _: RemoveAddr((99,)),
    "R50": lambda endpoint: MpFastclose(endpoint.peer ^ 1),
    "R51": lambda _: TcpRst(1),
}
Suits = Callable[[Segment], object]
Form = TypeVar("Form", bound=MptcpOption)


class Wire:
    """One address and port of a host, whose packets do not reach the host's kernel and are received here.

    A firewall rule drops the packets on the host, and a relay in the agent passes them on. ``log`` has all
    segments that were sent and received.
    """

    def __init__(
        self, machine: Machine, address: str, port: int, heard_within: float = HEARD_WITHIN_SECONDS
    ) -> None:
        self.machine, self.address, self.port = machine, IPv4Address(address), port
        self.heard_within = heard_within
        self.log: list[Segment] = []
        self._waiting: list[Segment] = []
        self._arrived = threading.Condition()
        self._relay = ""
        self._stack = ExitStack()

    def __enter__(self) -> Wire:
        probe = self.machine.probe
        with ExitStack() as stack:
            ttl = max(30.0, 2 * self.heard_within)
            stack.enter_context(probe.fault("drop", ttl, destination=str(self.address), dport=self.port))
            stack.callback(probe.listen_events(self._take))
            self._relay = probe.ask(str, "relay", address=str(self.address), port=self.port)
            stack.callback(probe.call, "close", item=self._relay)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _take(self, event: object) -> None:
        assert isinstance(event, dict), f"an event of {self.machine.name} is {event!r}"
        if event.get("relay") != self._relay or "packet" not in event:
            return
        try:
            packet = base64.b64decode(read_as(str, event["packet"]), validate=True)
        except ValueError as error:
            raise Misshapen(f"packet: {error}") from None
        segment = parse_segment(RAW, packet, number=len(self.log) + 1, time_ns=time.time_ns())
        if segment is not None:
            with self._arrived:
                self.log.append(segment)
                self._waiting.append(segment)
                self._arrived.notify_all()

    def send(self, segment: Segment) -> None:
        """Send a segment from the host, and append it to the log."""
        self.log.append(replace(segment, time_ns=time.time_ns()))
        self.send_packet(build_packet(segment))

    def send_packet(self, packet: bytes) -> None:
        """Send an IPv4 packet from the host as it is, without an entry in the log."""
        encoded = base64.b64encode(packet).decode()
        self.machine.probe.order("relay_send", relay=self._relay, packet=encoded)

    def next(self, suits: Suits, what: str, within: float = 0.0) -> Segment:
        """Return the first received segment that meets the condition `suits`, and take it out of the queue.

        It waits up to `within` seconds, or `heard_within` seconds if that is 0.

        Raises:
            NeverHappened: no such segment came; the message lists the segments in the queue.
        """
        end = time.monotonic() + (within or self.heard_within)
        with self._arrived:
            while True:
                for segment in self._waiting:
                    if suits(segment):
                        self._waiting.remove(segment)
                        return segment
                if not self._arrived.wait(max(0.0, end - time.monotonic())):
                    came = format_segments(self._waiting) or "nothing"
                    raise NeverHappened(f"{what} did not come to port {self.port}; what came: {came}")


class Subflow:
    """One subflow of the peer, on its wire: `says` sends and `hears` receives, in a packet ladder's order."""

    def __init__(self, wire: Wire, leg: Leg, endpoint: Endpoint) -> None:
        self.wire, self.leg, self.endpoint = wire, leg, endpoint
        self._last: Segment | None = None

    def says(self, flags: int, *options: Option, payload: bytes = b"") -> None:
        """Send the next segment, with these flags, options and payload."""
        segment = self.leg.segment(flags, *options, payload=payload)
        self._last = segment if payload else self._last
        self.wire.send(segment)

    def says_with_window(self, window: int, flags: int, *options: Option, payload: bytes = b"") -> None:
        """Send the next segment with a receive window of so many octets."""
        self.wire.send(replace(self.leg.segment(flags, *options, payload=payload), window=window))

    def asks(self, option: Option, what: str = "SYN/ACK") -> Segment:
        """Send a SYN, and repeat it until it is answered; return the SYN/ACK.

        Raises:
            NeverHappened: no answer came within the wire's `heard_within` seconds.
        """
        syn = self.leg.segment(SYN, option)
        self.wire.send(syn)
        return self._hears_or_repeats(syn, SYN | ACK, lambda _: True, what)

    def _hears_or_repeats(self, sent: Segment, flags: int, suits: Suits, what: str) -> Segment:
        """Wait for the answer to a segment, and send the segment again as long as there is none."""
        end = time.monotonic() + self.wire.heard_within
        while True:
            try:
                return self.hears(flags, suits, what, within=RETRANSMIT_SECONDS)
            except NeverHappened:
                if time.monotonic() >= end:
                    raise
            self.wire.send(sent)

    def hears(
        self, flags: int, suits: Suits = lambda _: True, what: str = "", within: float = 0.0
    ) -> Segment:
        """Return the next segment of the other end whose SYN, FIN and RST bits are those of `flags`.

        Segments that do not match, or that do not meet the condition `suits`, stay in the wire's queue.
        `what` names the segment in the error message, and `within` is in seconds (see `Wire.next`).
        """

        def is_wanted(segment: Segment) -> bool:
            if not self.leg.is_from_peer(segment):
                return False
            self.leg.take(segment)
            self.endpoint.learn(segment)
            return (segment.flags ^ flags) & (SYN | FIN | RST) == 0 and bool(suits(segment))

        return self.wire.next(is_wanted, what or "the next packet", within)

    def sends(self, payload: bytes) -> None:
        """Send data with its mapping."""
        self.says(PSH | ACK, self.endpoint.data(self.leg, payload), payload=payload)

    @property
    def peer_isn(self) -> int:
        """Return the other end's initial sequence number, from its SYN."""
        return next(s.seq for s in self.wire.log if self.leg.is_from_peer(s) and s.flags & SYN)

    def waiting_data(self) -> Iterator[Segment]:
        """Yield the data segments of the other end that have come, after a short wait for the first one."""
        with suppress(NeverHappened):
            while True:
                yield self.hears(ACK, lambda segment: segment.payload_length, within=DATA_WAIT_SECONDS)

    def says_beyond_window(self) -> None:
        """Send data whose DSN is far beyond the receive window."""
        end, payload = self.endpoint, token_bytes(10)
        far = Dss(end.data_ack, (end.dsn + (1 << 30)) % (1 << 64), self.leg.ssn, len(payload))
        self.says(PSH | ACK, far, payload=payload)

    def hears_data_ack(self) -> Segment:
        """Wait until the other end has acknowledged all data, and send the last data again until then."""
        assert self._last is not None, "nothing was sent on this subflow"
        return self._hears_or_repeats(
            self._last,
            ACK,
            lambda segment: _acknowledges(segment, self.endpoint.dsn),
            "DATA_ACK of all data",
        )


def _acknowledges(segment: Segment, dsn: int) -> bool:
    for option in segment.options:
        if isinstance(option, Dss) and option.data_ack is not None:
            return option.data_ack == dsn % (1 << 8 * option.data_ack_octets)
    return False


def option_of(segment: Segment, form: type[Form]) -> Form:
    """Return the first option of the class `form` in a segment; fail if the segment has none."""
    found = [option for option in segment.options if isinstance(option, form)]
    assert found, f"no {form.__name__} in {format_segments([segment])}"
    return found[0]


def unused_port() -> int:
    """Return a port for a peer, another one each time until all were used."""
    return next(_UNUSED)


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


def start_connect(client: Machine, server: Peer) -> tuple[Wire, Subflow, Pending]:
    """Let a client's kernel connect to a peer; return the wire, the subflow to answer on, and the call."""
    wire = server.listens(server.machine.address())
    to = {"address": str(wire.address), "port": wire.port}
    connecting = client.probe.start("connect", protocol="mptcp", timeout=HEARD_WITHIN_SECONDS, **to)
    first, _ = server.answers(wire)
    return wire, first, connecting


@contextmanager
def served_client(client: Machine, server: Peer) -> Iterator[tuple[Wire, Subflow, Stream]]:
    """Connect a client's kernel to a peer; yield the wire, the first subflow and the client's stream.

    The peer has sent data before, so that the client may open further subflows.
    """
    wire, first, connecting = start_connect(client, server)
    first.says(SYN | ACK, MpCapable(server.endpoint.key, flags=server.endpoint.flags))
    first.hears(ACK, what="the third packet")
    with Stream(client.probe, connecting.read(Opened)) as stream:
        check_alive(first)
        yield wire, first, stream
        stream.close(reset=True)


def talks_to(opened: Peer, target: Target) -> Subflow:
    """Connect a peer on A to a target from A-1, and return the first subflow."""
    return opened.connects(target.machine.address(), target.port, opened.machine.address(0))


def check_alive(first: Subflow) -> None:
    """Check that the other end still acknowledges data on a connection."""
    first.sends(token_bytes(100))
    first.hears_data_ack()
