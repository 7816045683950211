"""Receive and send the packets of one address and port of a host without that host's kernel."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import IPv4Address
from itertools import cycle
from random import sample

from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import NeverHappened
from mptcp_lab.probe.shapes import Misshapen, read_as
from mptcp_lab.suite.packets import format_segments
from mptcp_lab.wire import (
    Segment,
    build_packet,
    parse_segment,
)
from mptcp_lab.wire.packet import RAW

HEARD_WITHIN_SECONDS = 5.0
#: Ports below the range from which kernels choose (net.ipv4.ip_local_port_range).
PORTS = range(20000, 30000)
#: The ports in an order that begins anywhere: a port that an earlier peer of this run used may still have a
#: connection at the other end, which answers its SYN by an ACK.
_UNUSED = cycle(sample(PORTS, len(PORTS)))
Suits = Callable[[Segment], object]


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


def unused_port() -> int:
    """Return a port for a peer, another one each time until all were used."""
    return next(_UNUSED)
