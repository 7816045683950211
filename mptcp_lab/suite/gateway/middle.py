"""Run a scripted middlebox on a gateway: it changes MPTCP's packets between two kernels (GATEWAY-7).

A client connects to an address and port of the gateway. The script receives each packet there, may change,
split or join it, and sends it on to the server from another address and port of the gateway, and back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Self

from mptcp_lab.inventory.model import Service
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import NeverHappened
from mptcp_lab.suite.expectations import announcing_nothing, origin_of
from mptcp_lab.suite.gateway.routing import address_behind, on_segment
from mptcp_lab.suite.rfc8684.peer_wire import Wire, unused_port
from mptcp_lab.suite.split.forwarders import without_endpoints
from mptcp_lab.suite.traffic import FarEnd, Flow, flow
from mptcp_lab.wire import MpCapable, MptcpOption, Segment
from mptcp_lab.wire.codec import Option
from mptcp_lab.wire.packet import ACK, FIN, PSH, RST, SYN

#: A segment that waits for another one to be joined with is sent on alone after this time.
HELD_SECONDS = 0.05
#: The most payload of a packet with 40 octets of options that fits an Ethernet frame, rounded down.
PACKET_BYTES = 1400


class Script:
    """The treatment of one connection's packets by a middlebox; this one passes all of them on unchanged.

    ``changes`` counts the packets that were changed, split or joined.
    """

    changes = 0

    def to_server(self, segment: Segment) -> list[Segment]:
        """Return what is sent to the server in place of a client's packet."""
        return [segment]

    def to_client(self, segment: Segment) -> list[Segment]:
        """Return what is sent to the client in place of a server's packet."""
        return [segment]

    def release(self, is_to_server: bool) -> list[Segment]:  # noqa: ARG002
        """Return packets that were held back and are now due, in a direction."""
        return []


class MirrorsOptions(Script):
    """Answers with the MPTCP options of the client's own SYN in place of the server's."""

    def __init__(self) -> None:
        self._own: tuple[Option, ...] = ()

    def to_server(self, segment: Segment) -> list[Segment]:
        """Remember the options of the SYN."""
        if segment.flags & SYN:
            self._own = tuple(o for o in segment.options if isinstance(o, MptcpOption))
        return [segment]

    def to_client(self, segment: Segment) -> list[Segment]:
        """Replace the options of the SYN/ACK."""
        if segment.flags & SYN:
            kept = tuple(o for o in segment.options if not isinstance(o, MptcpOption))
            self.changes += 1
            return [replace(segment, options=kept + self._own)]
        return [segment]


class ChangesFlags(Script):
    """Changes flags of MP_CAPABLE in the third packet, and wherever the client repeats that option."""

    def __init__(self, mask: int) -> None:
        self._mask = mask

    def to_server(self, segment: Segment) -> list[Segment]:
        """Change the flags in packets that are no SYN."""
        if segment.flags & SYN:
            return [segment]
        options = tuple(
            replace(o, flags=o.flags ^ self._mask) if isinstance(o, MpCapable) else o for o in segment.options
        )
        self.changes += options != segment.options
        return [replace(segment, options=options)]


class Splits(Script):
    """Splits each segment in two. Both parts have its options (`copies`), or the first one only."""

    def __init__(self, *, copies: bool) -> None:
        self._copies = copies

    def to_server(self, segment: Segment) -> list[Segment]:
        """Return both parts of a segment with two octets or more."""
        middle = len(segment.payload) // 2
        if not middle:
            return [segment]
        kept = tuple(o for o in segment.options if self._copies or not isinstance(o, MptcpOption))
        self.changes += 1
        first = replace(segment, payload=segment.payload[:middle], flags=segment.flags & ~(FIN | PSH))
        second = replace(
            segment, payload=segment.payload[middle:], seq=(segment.seq + middle) % (1 << 32), options=kept
        )
        return [first, second]

    to_client = to_server


class Joins(Script):
    """Joins two segments in a row to one, which has the options of the first: the other mapping is lost."""

    def __init__(self) -> None:
        self._held: dict[bool, Segment] = {}

    def to_server(self, segment: Segment) -> list[Segment]:
        """Hold a segment of data back until the next one, or return both as one."""
        return self._pass(segment, True)

    def to_client(self, segment: Segment) -> list[Segment]:
        """Hold a segment of data back until the next one, or return both as one."""
        return self._pass(segment, False)

    def release(self, is_to_server: bool) -> list[Segment]:
        """Return the segment that is held back in a direction."""
        held = self._held.pop(is_to_server, None)
        return [held] if held else []

    def _pass(self, segment: Segment, is_to_server: bool) -> list[Segment]:
        if not segment.payload and not segment.flags & (SYN | FIN | RST):
            return [segment]  # an acknowledgement overtakes the segment that is held back
        held = self._held.pop(is_to_server, None)
        if held is None:
            if segment.flags & (SYN | FIN | RST):
                return [segment]
            self._held[is_to_server] = segment
            return []
        follows = segment.seq == (held.seq + len(held.payload)) % (1 << 32)
        if follows and 0 < len(segment.payload) <= PACKET_BYTES - len(held.payload):
            self.changes += 1
            flags = held.flags | segment.flags
            return [replace(held, payload=held.payload + segment.payload, ack=segment.ack, flags=flags)]
        return [held, segment]


@dataclass(frozen=True)
class Place:
    """Where a middlebox works: its machine, its addresses towards client and server, and the server."""

    router: Machine
    outside: str
    inside: str
    server: Machine
    address: str
    origin: Service


def place_between(client: Machine, router: Machine, server: Machine) -> Place:
    """Return the place on a router between a client's first path and a server's address behind the router.

    Raises:
        Unsupported: the router is not between them.
    """
    address = address_behind(router, client, server)
    segment = next(nic.segment for nic in server.host.nics if nic.ipv4 and str(nic.ipv4.ip) == address)
    outside = on_segment(router, client.paths[0].segment)
    return Place(router, outside, on_segment(router, segment), server, address, origin_of(server))


class Middlebox:
    """A script at work on a gateway, between the first client that connects to it and the server."""

    def __init__(self, place: Place, script: Script) -> None:
        self.place, self.script = place, script
        self._outer, self._inner = (
            Wire(place.router, address, unused_port()) for address in (place.outside, place.inside)
        )
        self._client: Segment | None = None
        self._is_done = threading.Event()
        self._problem: Exception | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for wire in (self._outer, self._inner):
                stack.enter_context(wire)
            threads = [threading.Thread(target=self._run, args=(to_server,)) for to_server in (True, False)]
            for thread in threads:
                thread.start()
                stack.callback(thread.join)
            stack.callback(self._is_done.set)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        if self._problem is not None:
            raise self._problem

    @contextmanager
    def flow(self, client: Machine) -> Iterator[Flow]:
        """Connect a client to the server's origin through the middlebox."""
        place = self.place
        far_end = FarEnd(place.server, place.origin.port)
        with flow(
            client, place.outside, self._outer.port, place.server, place.origin, far_end=far_end
        ) as opened:
            yield opened

    def packets(self) -> list[Segment]:
        """Return the packets of both sides, in order of time."""
        return sorted(self._outer.log + self._inner.log, key=lambda segment: segment.time_ns)

    def _run(self, is_to_server: bool) -> None:
        wire = self._outer if is_to_server else self._inner
        change: Callable[[Segment], list[Segment]] = (
            self.script.to_server if is_to_server else self.script.to_client
        )
        try:
            while not self._is_done.is_set():
                try:
                    changed = change(wire.next(lambda _: True, "a packet", within=HELD_SECONDS))
                except NeverHappened:
                    changed = self.script.release(is_to_server)
                for segment in changed:
                    self._send_on(segment, is_to_server)
        except Exception as problem:  # raised in the check's own thread when the block ends
            self._problem = problem

    def _send_on(self, segment: Segment, is_to_server: bool) -> None:
        """Send a packet from the other side of the middlebox, if it belongs to its connection."""
        if is_to_server and self._client is None and segment.flags & (SYN | ACK) == SYN:
            self._client = segment
        first = self._client
        if first is None or (is_to_server and (first.src, first.sport) != (segment.src, segment.sport)):
            return
        if is_to_server:
            wire, to = self._inner, (ip_address(self.place.address), self.place.origin.port)
        else:
            wire, to = self._outer, (first.src, first.sport)
        for each in _cut(segment):
            wire.send(replace(each, src=wire.address, sport=wire.port, dst=to[0], dport=to[1]))


def _cut(segment: Segment) -> Iterator[Segment]:
    """Cut a segment that segmentation offload has left longer than a packet, as a NIC does."""
    for start in range(0, max(1, len(segment.payload)), PACKET_BYTES):
        piece = segment.payload[start : start + PACKET_BYTES]
        is_last = start + PACKET_BYTES >= len(segment.payload)
        flags = segment.flags if is_last else segment.flags & ~(FIN | PSH)
        yield replace(segment, payload=piece, seq=(segment.seq + start) % (1 << 32), flags=flags)


@contextmanager
def middlebox(client: Machine, router: Machine, server: Machine, script: Script) -> Iterator[Middlebox]:
    """Run a script between a client and a server that both keep to one subflow in the block."""
    place = place_between(client, router, server)
    with announcing_nothing(server), without_endpoints(client), Middlebox(place, script) as opened:
        yield opened
