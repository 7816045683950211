"""Compare MPTCP over two unequal paths with plain TCP over the better one, and with the sum (DIRECT-21)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import Stream
from mptcp_lab.suite.direct.both_ends import served_client, server_listeners
from mptcp_lab.suite.direct.live import check_exchange, live_connection
from mptcp_lab.suite.directions import UPLOAD
from mptcp_lab.suite.expectations import expected_pairs, wait_for_joins
from mptcp_lab.suite.timing import check_time

FAST_MBIT, SLOW_MBIT = 20, 5
NEAR_MS, FAR_MS = 0, 40
#: A queue as a well-kept router has it. With a deep one the slow path holds the others up (Corrections).
QUEUE_MS, BURST_KB = 30, 16
#: Goodput is measured after so many octets. In slow start the slow path's queue overflows, and the stream can
#: stand still for a retransmission timeout of that path, half a second in one of ten transfers. What has
#: arrived by then, and waits for the slow path, counts as well: the share can exceed that of the links' sum.
WARM_UP_BYTES = 2_000_000
TRANSFER_BYTES = WARM_UP_BYTES + 3_000_000
TRANSFER_TIMEOUT_S = 60.0
#: MPTCP is to reach this share of the goodput of the better path. The rest is for the noise of measuring, and
#: for the end of a transfer, when the last data is still on the slow path.
LEAST_SHARE = 0.85
#: A transfer that has to use both links has the size, rates and delays of the kernel's simult_flows.sh; netem
#: makes the delays, at both ends. The script allows 0.80 of 40 Mbit/s for 16 MiB, with its own pauses;
#: here slow start is left out, in which a link with a round trip of 100 ms loses as much as those pauses.
SUM_BYTES = 16 << 20
LEAST_OF_SUM = 0.8
#: Disturbance of every path: jitter of this size lets later packets overtake earlier ones.
DELAY_MS, JITTER_MS, LOSS_PERCENT = 10, 5, 1


@dataclass(frozen=True)
class Paths:
    """The rates in Mbit/s and the round-trip delays in ms of the first path and of the others."""

    mbit: tuple[int, int]
    delay_ms: tuple[int, int]


#: In each the first path is the better one.
PROFILES = {
    "rate": Paths((FAST_MBIT, SLOW_MBIT), (NEAR_MS, NEAR_MS)),
    "delay": Paths((FAST_MBIT, FAST_MBIT), (NEAR_MS, FAR_MS)),
    "both": Paths((FAST_MBIT, SLOW_MBIT), (NEAR_MS, FAR_MS)),
    "opposed": Paths((FAST_MBIT, SLOW_MBIT), (FAR_MS, NEAR_MS)),
}
SUM_PROFILES = {
    "rate": Paths((30, 10), (0, 0)),
    "delay": Paths((20, 20), (1, 50)),
    "both": Paths((30, 10), (1, 50)),
    "opposed": Paths((30, 10), (50, 1)),
}


@contextmanager
def shaped_paths(sender: Machine, receiver: Machine, paths: Paths) -> Iterator[None]:
    """Limit the rates at the sender's NICs, and delay what the receiver sends back.

    Raises:
        Unsupported: the receiver's kernel has no netem, and a path has a delay.
    """
    with ExitStack() as stack:
        if any(paths.delay_ms):
            for number, nic in enumerate(receiver.paths):
                delay = paths.delay_ms[min(number, 1)]
                if delay:
                    stack.enter_context(receiver.probe.fault("netem", device=nic.device, delay_ms=delay))
        for number, nic in enumerate(sender.paths):
            rate = {"mbit": paths.mbit[min(number, 1)], "latency_ms": QUEUE_MS, "burst_kb": BURST_KB}
            stack.enter_context(sender.probe.fault("rate", device=nic.device, **rate))
        yield


def check_goodput(
    client: Machine, server: Machine, profile: str, direction: str, evidence: EvidenceBox
) -> None:
    """Check that MPTCP over all paths is as fast as plain TCP over the better path in the same run."""
    sender, receiver = (client, server) if direction == UPLOAD else (server, client)
    with shaped_paths(sender, receiver, PROFILES[profile]):
        plain = plain_goodput(client, server, direction)
        multipath = multipath_goodput(client, server, direction)
    evidence.figure("plain TCP over the better path", plain, "Mbit/s")
    evidence.figure("goodput, of that", multipath / plain)
    check_time(
        multipath >= LEAST_SHARE * plain,
        f"MPTCP reached {multipath:.1f} Mbit/s, plain TCP over the better path {plain:.1f} Mbit/s",
    )


@contextmanager
def shaped_links(ends: tuple[Machine, Machine], paths: Paths) -> Iterator[None]:
    """Limit rates and, where there is one, make delays at the NICs of both ends.

    Raises:
        Unsupported: a kernel has no netem, and a path has a delay.
    """
    with ExitStack() as stack:
        for machine in ends:
            for number, nic in enumerate(machine.paths):
                mbit, delay_ms = (each[min(number, 1)] for each in (paths.mbit, paths.delay_ms))
                how: dict[str, float] = {"latency_ms": QUEUE_MS, "burst_kb": BURST_KB}
                if delay_ms:
                    how = {"delay_ms": delay_ms}
                kind = "netem" if delay_ms else "rate"
                stack.enter_context(machine.probe.fault(kind, device=nic.device, mbit=mbit, **how))
        yield


def check_uses_both(
    client: Machine, server: Machine, profile: str, direction: str, evidence: EvidenceBox
) -> None:
    """Check that one transfer gets near the sum of both links, and so more than the better one has."""
    paths = SUM_PROFILES[profile]
    with shaped_links((client, server), paths):
        goodput = multipath_goodput(client, server, direction, total=SUM_BYTES)
    share = goodput / sum(paths.mbit)
    evidence.figure("goodput, of the sum of both links", share)
    check_time(
        share >= LEAST_OF_SUM,
        f"MPTCP reached {goodput:.1f} Mbit/s over links of {paths.mbit[0]} and {paths.mbit[1]} Mbit/s: "
        f"{share:.2f} of their sum, and at least {LEAST_OF_SUM} is expected",
    )


def plain_goodput(client: Machine, server: Machine, direction: str) -> float:
    """Return the goodput of plain TCP over the first path, in Mbit/s."""
    with (
        server_listeners(server) as listeners,
        client.probe.connect(
            server.address(0), listeners[0].port, protocol="tcp", source=client.address(0)
        ) as stream,
        listeners[0].accept() as accepted,
    ):
        return _goodput(stream, accepted, direction)


def multipath_goodput(
    client: Machine,
    server: Machine,
    direction: str,
    warm_up: int = WARM_UP_BYTES,
    total: int = TRANSFER_BYTES,
) -> float:
    """Return the goodput in Mbit/s of `total` bytes, after `warm_up` of them, over all subflows."""
    with server_listeners(server) as listeners, served_client(client, server, listeners) as connection:
        check_exchange(connection, "at first")
        wait_for_joins(connection, expected_pairs(client, server))
        return _goodput(connection.stream, connection.accepted, direction, warm_up, total)


def _goodput(
    stream: Stream,
    accepted: Stream,
    direction: str,
    warm_up: int = WARM_UP_BYTES,
    total: int = TRANSFER_BYTES,
) -> float:
    source, sink = (stream, accepted) if direction == UPLOAD else (accepted, stream)
    receiving = sink.receive(total)
    sent = source.send(total, seed=direction).wait(TRANSFER_TIMEOUT_S)
    got = receiving.wait(TRANSFER_TIMEOUT_S)
    assert sent.sha256 == got.sha256, f"{direction}: what arrived is not what was sent"
    assert got.last is not None, f"{direction}: no data arrived"
    started, before = next(point for point in got.timeline.points if point[1] >= warm_up)
    return 8e-6 * (total - before) / (got.last - started)


def check_stays_whole(client: Machine, server: Machine, family: int) -> None:
    """Check that streams in both directions arrive whole over paths that delay, lose and reorder packets.

    The connection is over IPv4 (4) or IPv6 (6). Its subflows come before the disturbance: a lost
    announcement would be repeated after two minutes only (net.mptcp.add_addr_timeout).

    Raises:
        Unsupported: a kernel has no netem.
    """
    with live_connection(client, server, family) as data:
        wait_for_joins(data.connection, expected_pairs(client, server, family))
        with disturbed_paths(client, server):
            data.carry()
            data.check_intact()


@contextmanager
def disturbed_paths(client: Machine, server: Machine) -> Iterator[None]:
    """Let every path delay, lose and reorder packets in both directions."""
    disturbance = {"delay_ms": DELAY_MS, "jitter_ms": JITTER_MS, "loss_percent": LOSS_PERCENT}
    with ExitStack() as disturbed:
        for machine in (client, server):
            for nic in machine.paths:
                disturbed.enter_context(machine.probe.fault("netem", device=nic.device, **disturbance))
        yield
