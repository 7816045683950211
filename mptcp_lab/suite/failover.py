"""The one shape of every failover check: a live stream, a path taken away, the stream goes on, whole."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from mptcp_lab.inventory.model import Service
from mptcp_lab.plugin.evidence import EvidenceBox
from mptcp_lab.probe import eventually
from mptcp_lab.suite.expectations import all_joined, expected_pairs
from mptcp_lab.suite.matrix import Matrix
from mptcp_lab.suite.packets import bytes_by_path, of_port, rows, segments
from mptcp_lab.suite.session import Machine
from mptcp_lab.suite.traffic import Ended, flow

#: A stream whose path is lost must go on within this time: several retransmission timeouts.
RESUMED_WITHIN_SECONDS = 20.0
#: This much is sent before the fault, and again after the stream has gone on.
ENOUGH_BYTES = 200_000


def survives(
    client: Machine,
    server: Machine,
    service: Service,
    fault: Callable[[], AbstractContextManager[object]],
    evidence: EvidenceBox,
    *,
    origin: tuple[Machine, Service] | None = None,
    family: int = 4,
    way: tuple[str, Matrix] | None = None,
) -> Ended:
    """Assert that a stream outlives `fault`, the loss of its first path.

    The stream goes over IPv4 (4) or IPv6 (6) from `client` to `service` on `server`, behind which `origin` is
    for a proxy; `way` is the address to connect to and the subflows to expect, where both are not the
    server's own. Asserted: the first path carried it before, paths from another address carry it under the
    fault, and the origin accepted one connection and got every byte once and in order. The gap is the longest
    pause there.
    """
    behind, behind_service = origin or (server, service)
    to, pairs = way or (server.address(0, family), expected_pairs(client, server, family))
    with (
        client.probe.capture([nic.device for nic in client.paths]) as capture,
        flow(client, to, service.port, behind, behind_service) as data,
    ):
        assert data.stream.local is not None
        first = data.stream.local.address
        transfer = data.start()
        all_joined(data, pairs)
        eventually(
            lambda: transfer.progress().nbytes, until=ENOUGH_BYTES.__le__, within=10, what="bytes sent"
        )
        with fault():
            lost = client.probe.clock()
            arrived = data.record().bytes_received
            eventually(
                lambda: data.record().bytes_received,
                until=(arrived + ENOUGH_BYTES).__le__,
                within=RESUMED_WITHIN_SECONDS,
                what="the stream goes on under the fault",
            )
            back = client.probe.clock()
        ended = data.end(transfer)
        packets = of_port(segments(capture.stop()), service.port)
    start = packets[0].time_ns
    lost_at, back_at = (clock.realtime - start / 1e9 for clock in (lost, back))
    series = bytes_by_path(packets, service.port, start)
    gap = ended.got.received.gaps[0] if ended.got.received.gaps else None
    evidence.figure("gap", 1000 * (gap.seconds if gap else 0.0), "ms")
    evidence.timeline("bytes per path", series, [(lost_at, "path lost"), (back_at, "path back")])
    evidence.packets(rows(packets, client.name, "", start))
    before = {path for path, points in series.items() if points[0][0] < lost_at}
    after = {path for path, points in series.items() if any(lost_at < t < back_at for t, _ in points)}
    evidence.document("bytes per path", {path: points[-1][1] for path, points in series.items()})
    assert any(path.startswith(f"{first} ") for path in before), f"{first} carried nothing before: {before}"
    assert any(not path.startswith(f"{first} ") for path in after), f"only these carried any then: {after}"
    assert ended.intact, (
        f"sent {ended.sent.nbytes} bytes, {ended.got.bytes_received} arrived, or not the same"
    )
    return ended
