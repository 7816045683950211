"""Measure how long a stream pauses when its first path is lost, in one repetition and in many."""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import ConnectFailed, eventually
from mptcp_lab.suite.directions import BOTH, DOWNLOAD, UPLOAD, DirectionResult, Movement
from mptcp_lab.suite.expectations import direct_flow, expected_pairs, origin_of, wait_for_joins
from mptcp_lab.suite.failover.arrivals import in_order
from mptcp_lab.suite.packets import tcp_capture

#: A point of a stream: a time (seconds since the epoch), and how many bytes had passed by then.
Growth = tuple[float, int]
#: So many bytes arrive before the loss, and during it: enough to include the pauses that follow the first
#: one.
BEFORE_BYTES, UNDER_BYTES = 30_000, 150_000
RESUMED_WITHIN_SECONDS = 20.0
#: A switch port with a spanning tree forwards nothing for half a minute.
ANSWERS_WITHIN = 60.0
#: A pause longer than this is not due to scheduling: the stream is stalled.
STALLED_SECONDS = 0.05


@dataclass(frozen=True)
class Pauses:
    """The pauses that a stream's receiver saw while the first path was lost, in seconds.

    ``gap`` is the longest pause between the application's reads, by the probe's clock. ``captured`` is the
    longest pause between arrivals of in-order data at the host, by the capture. ``stalled`` is the sum of all
    pauses above `STALLED_SECONDS`. ``clocks`` are the least delays from capture to application, before the
    loss and after it. Scheduling only makes a delay longer, so the least delays show how far the two clocks
    are apart.
    """

    gap: float
    captured: float
    stalled: float
    clocks: tuple[float, float]

    @property
    def difference(self) -> float:
        """Return the difference of the two gaps in seconds, due to scheduling at either end of the gap."""
        return abs(self.gap - self.captured)


@dataclass(frozen=True)
class Distribution:
    """The minimum, median, 95th percentile (nearest rank) and maximum of some values."""

    least: float
    median: float
    p95: float
    most: float

    @classmethod
    def from_values(cls, values: Sequence[float]) -> Self:
        """Return the distribution of at least one value."""
        ranked = sorted(values)
        p95 = ranked[math.ceil(0.95 * len(ranked)) - 1]
        return cls(ranked[0], statistics.median(ranked), p95, ranked[-1])


def pauses_between(times: Sequence[float], since: float, until: float) -> list[float]:
    """Return the pauses between consecutive times that lie, at least in part, between two moments."""
    return [end - start for start, end in pairwise(times) if end > since and start < until]


def first_path_lost(
    client: Machine,
    server: Machine,
    loss: Callable[[], AbstractContextManager[object]],
    direction: str = UPLOAD,
) -> dict[str, Pauses]:
    """Take away the first path of a live stream once; return the pauses of each direction until it resumed.

    The pauses of a direction are those that its receiver saw: the server for an upload, the client for a
    download.
    """
    port = origin_of(server).port
    eventually(
        lambda: _answers(client, server, port), until=bool, within=ANSWERS_WITHIN, what="the first path"
    )
    receivers = {UPLOAD: server, DOWNLOAD: client}
    if direction != BOTH:
        receivers = {direction: receivers[direction]}
    with ExitStack() as stack:
        captures = {
            way: stack.enter_context(tcp_capture(receiver, port, [nic.device for nic in receiver.paths]))
            for way, receiver in receivers.items()
        }
        movement = Movement(stack.enter_context(direct_flow(client, server)), direction)
        wait_for_joins(movement.data, expected_pairs(client, server))
        movement.wait_for(BEFORE_BYTES, RESUMED_WITHIN_SECONDS, "octets before the loss")
        with loss():
            lost = {way: receiver.probe.clock().realtime for way, receiver in receivers.items()}
            movement.wait_for(UNDER_BYTES, RESUMED_WITHIN_SECONDS, "the stream goes on under the fault")
            back = {way: receiver.probe.clock().realtime for way, receiver in receivers.items()}
        moved = movement.end()
        packets = {way: capture.stop() for way, capture in captures.items()}
    moved.check_intact()
    return {
        way.direction: _pauses_of(
            way,
            receivers[way.direction],
            in_order(packets[way.direction], port, way.direction),
            (lost[way.direction], back[way.direction]),
        )
        for way in moved.ways
    }


def _pauses_of(
    way: DirectionResult, receiver: Machine, seen: Sequence[Growth], times: tuple[float, float]
) -> Pauses:
    """Return the pauses of a direction between the loss and its end, `times`; `seen` is by the capture."""
    assert seen, f"{way.direction}: no data that {receiver.name} acknowledged is in its capture"
    pauses = pauses_between([when for when, _ in way.growth], *times)
    captured = pauses_between([when for when, _ in seen], *times)
    assert pauses, f"{way.direction}: {receiver.name} read at most once while the path was lost"
    assert captured, (
        f"{way.direction}: the capture at {receiver.name} has data at most once while the path was lost"
    )
    return Pauses(
        max(pauses),
        max(captured),
        sum(pause for pause in pauses if pause > STALLED_SECONDS),
        least_delays(way.growth, seen, times[0]),
    )


def _answers(client: Machine, server: Machine, port: int) -> bool:
    """Return whether the first path works: the previous repetition may have plugged its cable in just now."""
    try:
        with client.probe.connect(server.address(0), port, protocol="tcp", within=1.0) as stream:
            stream.close(reset=True)
    except ConnectFailed:
        return False
    return True


def least_delays(got: Sequence[Growth], seen: Sequence[Growth], split: float) -> tuple[float, float]:
    """Return the least delays in seconds from `seen` to `got`, before the time `split` and after it.

    `seen` is from the capture, and `got` from the application. Both end with the same byte. The capture may
    begin with a greeting that the application does not count.
    """
    greeting = seen[-1][1] - got[-1][1]
    lengths = [length for _, length in seen]
    delays = [(when, when - seen[bisect_left(lengths, total + greeting)][0]) for when, total in got]
    before = [delay for when, delay in delays if when < split]
    return min(before), min(delay for when, delay in delays if when >= split)


def keep(repetitions: Iterable[dict[str, Pauses]], evidence: EvidenceBox) -> None:
    """Keep the distribution over all repetitions as evidence, in milliseconds, for each direction.

    If there are two directions, the name of a figure ends with its direction.
    """
    every = list(repetitions)
    evidence.document("every repetition, in seconds", every)
    evidence.figure("repetitions", len(every))
    for way in every[0]:
        _keep_direction([each[way] for each in every], "" if len(every[0]) == 1 else f", {way}", evidence)


def _keep_direction(every: Sequence[Pauses], suffix: str, evidence: EvidenceBox) -> None:
    gaps = Distribution.from_values([1000 * each.gap for each in every])
    clocks = statistics.median(max(map(abs, p.clocks)) for p in every)
    evidence.figure(f"gap, min{suffix}", gaps.least, "ms")
    evidence.figure(f"gap, median{suffix}", gaps.median, "ms")
    evidence.figure(f"gap, p95{suffix}", gaps.p95, "ms")
    evidence.figure(f"gap, max{suffix}", gaps.most, "ms")
    stalled = statistics.median(each.stalled for each in every)
    evidence.figure(f"stalled in all, median{suffix}", 1000 * stalled, "ms")
    apart = statistics.median(each.difference for each in every)
    evidence.figure(f"gaps apart, median{suffix}", 1000 * apart, "ms")
    evidence.figure(f"clocks apart, median{suffix}", 1000 * clocks, "ms")
