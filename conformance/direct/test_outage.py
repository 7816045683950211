"""DIRECT-9: every path is cut for a while, then one comes back."""

import time
from contextlib import ExitStack

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.probe import eventually
from mptcp_lab.suite.expectations import direct_flow, expected_pairs, wait_for_joins
from mptcp_lab.suite.requirements import FULL_MESH, ORIGIN

#: The paths stay cut until a subflow has had so many retransmission timeouts in a row.
RETRANSMISSIONS = 3
CUT_WITHIN_SECONDS = 20.0
#: Data that was in flight on paths that stay cut is sent again, one segment per timeout of MPTCP
#: (Corrections).
RESUMED_WITHIN_SECONDS = 120.0
LASTS_SECONDS = CUT_WITHIN_SECONDS + RESUMED_WITHIN_SECONDS + 30.0
ENOUGH_BYTES, RESUMED_BYTES = 50_000, 20_000


@claim("DIRECT-9", requires=(ORIGIN, FULL_MESH))
def test_all_paths_cut(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """All paths are cut and one is restored: the stream resumes over it, and nothing is lost."""
    with (
        client.probe.capture([nic.device for nic in client.paths]) as capture,
        direct_flow(client, server) as data,
    ):
        transfer = data.start()
        wait_for_joins(data, expected_pairs(client, server))
        data.wait_for_bytes(ENOUGH_BYTES)
        with ExitStack() as cut:
            for path in range(1, len(client.paths)):
                cut.enter_context(server.probe.fault("drop", ttl=LASTS_SECONDS, source=client.address(path)))
            with server.probe.fault("drop", source=client.address(0)):
                arrived = data.record().bytes_received
                tries = eventually(
                    lambda: [s.tcp["backoff"] for s in data.stream.facts().subflows],
                    until=lambda backoffs: max(backoffs) >= RETRANSMISSIONS,
                    within=CUT_WITHIN_SECONDS,
                    what="retransmissions without an answer",
                )
                came = data.record().bytes_received - arrived
            restored = time.monotonic()
            data.wait_for_bytes(RESUMED_BYTES, within=RESUMED_WITHIN_SECONDS)
            seconds = time.monotonic() - restored
        ended = data.end(transfer, within=RESUMED_WITHIN_SECONDS)
        capture.stop()  # evidence: how data in flight was sent again
    evidence.document("retransmission timeouts in a row, per subflow", tries)
    evidence.figure("gap", 1000 * ended.got.received.max_gap, "ms")
    evidence.figure("resumed", seconds, "s")
    assert came == 0, f"{came} bytes arrived while every path was cut"
    assert ended.intact, ended.difference
