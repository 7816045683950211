"""Cut every path of a live stream, restore one, and check that the stream resumes (DIRECT-9)."""

from __future__ import annotations

import time
from contextlib import ExitStack

from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import eventually
from mptcp_lab.suite.directions import Movement
from mptcp_lab.suite.expectations import direct_flow, expected_pairs, wait_for_joins

#: Data that arrives after the first timeout was not in flight at the cut. The paths stay cut until a subflow
#: has had `RETRANSMISSIONS` timeouts in a row.
FIRST_TIMEOUT, RETRANSMISSIONS = 1, 3
CUT_WITHIN_SECONDS = 20.0
#: Data that was in flight on paths that stay cut is sent again, one segment per timeout of MPTCP
#: (Corrections).
RESUMED_WITHIN_SECONDS = 120.0
LASTS_SECONDS = CUT_WITHIN_SECONDS + RESUMED_WITHIN_SECONDS + 30.0
ENOUGH_BYTES, RESUMED_BYTES = 50_000, 20_000


def check_resumes(client: Machine, server: Machine, direction: str, evidence: EvidenceBox) -> None:
    """Check that a stream whose paths are all cut resumes in each of its directions when one comes back.

    Nothing may arrive while all paths are cut. In the end every octet must have arrived once and in order.
    """
    with (
        client.probe.capture([nic.device for nic in client.paths]) as capture,
        direct_flow(client, server) as data,
    ):
        movement = Movement(data, direction)
        wait_for_joins(data, expected_pairs(client, server))
        movement.wait_for(ENOUGH_BYTES, 10, "octets before the outage")
        with ExitStack() as cut:
            for path in range(1, len(client.paths)):
                cut.enter_context(
                    server.probe.fault(
                        "drop", ttl=LASTS_SECONDS, direction="both", source=client.address(path)
                    )
                )
            with server.probe.fault("drop", direction="both", source=client.address(0)):
                _wait_for_timeouts(movement, FIRST_TIMEOUT)
                arrived = movement.count_received()
                timeouts = _wait_for_timeouts(movement, RETRANSMISSIONS)
                came = movement.count_received()
            restored = time.monotonic()
            movement.wait_for(RESUMED_BYTES, RESUMED_WITHIN_SECONDS, f"{RESUMED_BYTES} more octets")
            seconds = time.monotonic() - restored
        moved = movement.end(RESUMED_WITHIN_SECONDS)
        capture.stop()  # evidence: how data in flight was sent again
    evidence.document("retransmission timeouts in a row, per subflow", timeouts)
    moved.keep_gaps(evidence)
    evidence.figure("resumed", seconds, "s")
    assert came == arrived, f"octets arrived while every path was cut: {arrived} before, {came} after"
    moved.check_intact()


def _wait_for_timeouts(movement: Movement, count: int) -> dict[str, list[int]]:
    """Wait until each sender has a subflow with so many timeouts in a row; return those of all subflows."""
    return eventually(
        lambda: {
            way: [subflow.tcp["backoff"] for subflow in movement.read_sender(way).subflows]
            for way in movement.ways
        },
        until=lambda found: all(max(backoffs, default=0) >= count for backoffs in found.values()),
        within=CUT_WITHIN_SECONDS,
        what="retransmissions without an answer",
    )
