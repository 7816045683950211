"""Measure how long a stream pauses when its first path is lost, in one repetition and in many."""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import ConnectFailed, eventually
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
    client: Machine, server: Machine, loss: Callable[[], AbstractContextManager[object]]
) -> Pauses:
    """Take away the first path of a live stream once; return the stream's pauses until it has resumed."""
    port = origin_of(server).port
    eventually(
        lambda: _answers(client, server, port), until=bool, within=ANSWERS_WITHIN, what="the first path"
    )
    with (
        tcp_capture(server, port, [nic.device for nic in server.paths]) as capture,
        direct_flow(client, server) as data,
    ):
        transfer = data.start()
        wait_for_joins(data, expected_pairs(client, server))
        data.wait_for_bytes(BEFORE_BYTES)
        with loss():
            lost = server.probe.clock()
            data.wait_for_bytes(UNDER_BYTES, within=RESUMED_WITHIN_SECONDS)
            back = server.probe.clock()
        ended = data.end(transfer)
        packets = capture.stop()
    assert ended.intact, ended.difference
    got = [(lost.realtime_of(when), total) for when, total in ended.got.received.points]
    seen = in_order(packets, port)
    assert seen, f"no data of port {port} that {server.name} acknowledged is in its capture"
    pauses = pauses_between([when for when, _ in got], lost.realtime, back.realtime)
    captured = pauses_between([when for when, _ in seen], lost.realtime, back.realtime)
    assert pauses, f"{server.name} read at most once while the path was lost"
    assert captured, f"the capture at {server.name} has data at most once while the path was lost"
    return Pauses(
        max(pauses),
        max(captured),
        sum(pause for pause in pauses if pause > STALLED_SECONDS),
        least_delays(got, seen, lost.realtime),
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


def keep(pauses: Iterable[Pauses], evidence: EvidenceBox) -> None:
    """Keep the distribution over all repetitions as evidence, in milliseconds."""
    every = list(pauses)
    gaps = Distribution.from_values([1000 * each.gap for each in every])
    evidence.document("every repetition, in seconds", every)
    evidence.figure("repetitions", len(every))
    evidence.figure("gap, min", gaps.least, "ms")
    evidence.figure("gap, median", gaps.median, "ms")
    evidence.figure("gap, p95", gaps.p95, "ms")
    evidence.figure("gap, max", gaps.most, "ms")
    evidence.figure("stalled in all, median", 1000 * statistics.median(p.stalled for p in every), "ms")
    clocks = statistics.median(max(map(abs, p.clocks)) for p in every)
    evidence.figure("gaps apart, median", 1000 * statistics.median(p.difference for p in every), "ms")
    evidence.figure("clocks apart, median", 1000 * clocks, "ms")
