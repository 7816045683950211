"""Act on the backend of a proxy for a check, and compare with the behaviour that each engine documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mptcp_lab.inventory.engines import PROXIES, Documented
from mptcp_lab.probe import Origin, OriginRecord, Transfer, TransferResult, eventually
from mptcp_lab.suite.packets import opened_here
from mptcp_lab.suite.traffic import Flow, Target
from mptcp_lab.wire.analyse import Analyser
from mptcp_lab.wire.model import Connection
from mptcp_lab.wire.packet import Segment

#: How much later than a timeout a busy machine may act.
LATE_SECONDS = 3.0
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def documented_behaviour(target: Target) -> Documented:
    """Return the behaviour that the engine behind a target documents."""
    return PROXIES[target.service.engine].documented


def in_seconds(time: str) -> float:
    """Convert a time as proxies write it, such as ``500ms``, to seconds."""
    number = time.rstrip("hms")
    return int(number) * UNITS[time[len(number) :]]


def ends(receiving: Transfer, since: float, within: float) -> tuple[TransferResult, float]:
    """Wait until a stream that is being received ends in any way; return the result and the time it took.

    The time is in seconds from `since`, on the monotonic clock of the receiving host.
    """
    result = receiving.wait(within, check=False)
    return result, result.clock.monotonic - since


def recorded_end(flow: Flow, within: float = 20.0) -> str | None:
    """Wait until the origin has seen a stream end; return how: eof, error or reset."""
    return eventually(
        flow.record, until=lambda record: not record.open, within=within, what="the end of the stream at B"
    ).end


def backend(target: Target) -> Origin:
    """Return the origin service behind a target."""
    return target.origin.probe.origin(target.origin_service.name)


def wait_for_bytes(flow: Flow, nbytes: int, within: float = 20.0) -> OriginRecord:
    """Wait until the origin has received so many bytes of a stream; return its record."""
    return eventually(
        flow.record, until=lambda record: record.bytes_received >= nbytes, within=within, what="bytes at B"
    )


def longest_attempt(target: Target) -> float:
    """Return how long a proxy tries to connect to its backend at most, in seconds."""
    return documented_behaviour(target).attempts * in_seconds(target.service.connect_timeout)


@contextmanager
def not_accepting(target: Target) -> Iterator[Callable[[], None]]:
    """Let the origin behind a target leave connections in its backlog during the block.

    It accepts again at the end of the block, or when the function that is yielded is called.
    """
    backend(target).pause_accepting()
    try:
        yield backend(target).resume_accepting
    finally:
        backend(target).resume_accepting()


@contextmanager
def not_reading(target: Target, flow: Flow) -> Iterator[None]:
    """Stop the origin behind a target from reading a stream, until the end of the block."""
    backend(target).pause_reading(tag=flow.tag)
    try:
        yield
    finally:
        backend(target).resume_reading(tag=flow.tag)


@dataclass(frozen=True)
class Legs:
    """How many bytes of A were acknowledged to A (DATA_ACK), and how many bytes B acknowledged (TCP)."""

    front: int
    back: int


def acknowledged_on_legs(found: list[Segment], target: Target) -> Legs:
    """Return what was acknowledged on either leg of the one stream that a capture on the proxy saw open."""
    analyser = Analyser()
    for segment in opened_here(found):
        analyser.feed(segment)
    connections = analyser.finish().connections
    (inner,) = (c for c in connections if _leads_to(c, target))
    (outer,) = (c for c in connections if c is not inner and c.subflows[0].dport == target.port)
    acked, first = outer.client.acked, outer.client.first_dsn
    assert acked is not None and first is not None, "A's data was never DATA_ACKed"
    return Legs(acked - first, inner.subflows[0].client.acked - 1)


def ahead_of_backend(target: Target, flow: Flow, nbytes: int, within: float = 10.0) -> None:
    """Wait until B's kernel takes no more data, and `nbytes` more than it has are DATA_ACKed to A."""
    number = flow.record().number

    def reading() -> tuple[int, int]:
        # A's figure is read first: if both legs were one connection, B's kernel would already have these
        # bytes.
        info, tcp = flow.stream.facts().info, backend(target).facts(number).tcp
        return (info["bytes_acked"] if info else 0), (tcp["bytes_received"] if tcp else 0)

    eventually(
        lambda: (reading(), reading()),
        until=lambda pair: pair[0] == pair[1] and pair[1][0] - pair[1][1] >= nbytes,
        within=within,
        what="(bytes DATA_ACKed to A, bytes at B), twice the same and far apart",
    )


def _leads_to(connection: Connection, target: Target) -> bool:
    subflow = connection.subflows[0]
    origins = {str(nic.address(6 if ":" in str(subflow.dst) else 4)) for nic in target.origin.host.nics}
    return subflow.dport == target.origin_service.port and str(subflow.dst) in origins
