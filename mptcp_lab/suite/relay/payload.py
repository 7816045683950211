"""Send payloads through a relay, and compare what arrives (RELAY-2)."""

from __future__ import annotations

from dataclasses import dataclass

from mptcp_lab.machines.session import Machine
from mptcp_lab.suite.directions import move
from mptcp_lab.suite.relay.relays import Relay

MIB = 1 << 20


@dataclass(frozen=True)
class Payload:
    """The data to send: bytes in all, bytes per write, and their pattern."""

    nbytes: int
    chunk: int = 65536
    pattern: str = "random"


PAYLOADS = {
    "0B": Payload(0),
    "1B": Payload(1),
    "64KiB": Payload(65536),
    "zeros": Payload(MIB, pattern="zero"),
    "byte-by-byte": Payload(2000, chunk=1),
}
MUCH = Payload(64 * MIB)


def check_unchanged(client: Machine, relay: Relay, payload: Payload, direction: str) -> None:
    """Check that a payload arrives unchanged in a direction, or in both at once."""
    with relay.flow(client) as data:
        moved = move(data, direction, payload.nbytes, chunk=payload.chunk, pattern=payload.pattern)
    moved.check_intact(payload.nbytes)
