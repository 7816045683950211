"""Send forged packets from an attacker's host, never more than a fixed number of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from mptcp_lab.errors import Inconclusive
from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.machines.session import Machine
from mptcp_lab.suite.packets import rows
from mptcp_lab.suite.rfc8684.peer_wire import Wire, unused_port
from mptcp_lab.wire import Segment
from mptcp_lab.wire.codec import Option
from mptcp_lab.wire.packet import ACK

#: No attack sends more packets than this.
MOST_PACKETS = 512


class Forger:
    """An attacker's raw socket on one path: it sends any IPv4 segment, whatever source address it has.

    ``wire`` receives the packets to the attacker's own address and port.
    """

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.sent = 0

    def sends(self, *forged: Segment) -> None:
        """Send forged segments; raise `Inconclusive` before the attack exceeds `MOST_PACKETS`."""
        self.sent += len(forged)
        if self.sent > MOST_PACKETS:
            where = self.wire.machine.name
            raise Inconclusive(where, f"the attack would send more than {MOST_PACKETS} packets")
        for segment in forged:
            self.wire.send(segment)

    def received_segments(self) -> list[Segment]:
        """Return the packets that came to the attacker's address and port so far."""
        return [segment for segment in self.wire.log if segment.dst == self.wire.address]


@contextmanager
def forging_packets(attacker: Machine, path: int, evidence: EvidenceBox) -> Iterator[Forger]:
    """Let an attacker forge packets on one of its paths, and keep what it sent and received as evidence."""
    with Wire(attacker, attacker.address(path), unused_port()) as wire:
        try:
            yield Forger(wire)
        finally:
            evidence.packets(rows(wire.log, attacker.name), f"packets of {attacker.name}")


def next_segment(last: Segment, flags: int = ACK, *options: Option, ahead: int = 0) -> Segment:
    """Return a segment without data that its receiver takes for the next one after `last`.

    `ahead` moves its sequence number: a little ahead is inside the receiver's window, far ahead outside.
    """
    seq = (last.seq + last.payload_length + ahead) % (1 << 32)
    return replace(last, seq=seq, flags=flags, options=options, payload=b"", payload_length=0, malformed=())
