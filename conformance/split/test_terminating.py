"""SPLIT-7 and SPLIT-8: two terminating proxies, each of which ends A's connections itself."""

import pytest

from mptcp_lab.inventory.engines import PROXIES
from mptcp_lab.machines.session import Machine, Session
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.probe import eventually
from mptcp_lab.suite.directions import BOTH, DOWNLOAD, UPLOAD
from mptcp_lab.suite.failover.live_stream import ENOUGH_BYTES
from mptcp_lab.suite.packets import format_segments, joins, reset_reasons, rows, tcp_capture
from mptcp_lab.suite.requirements import CABLES_OF_DYING_PROXY, TWO_PATHS
from mptcp_lab.suite.split.application import DEATHS, check_survives
from mptcp_lab.suite.split.forwarders import userspace_paths, wait_until_established
from mptcp_lab.suite.traffic import Target, is_mptcp

FIRST_ENGINE, *_, LAST_ENGINE = PROXIES


@claim("SPLIT-7", requires=TWO_PATHS)
def test_join_at_another_proxy(
    client: Machine, targets: tuple[Target, Target], evidence: EvidenceBox
) -> None:
    """The second proxy does not have the token and answers the join with RST; the first subflow goes on."""
    first, second = targets
    before, device = second.machine.probe.counters(), second.machine.paths[1].device
    with (
        tcp_capture(second.machine, second.port, [device]) as capture,
        userspace_paths(client),
        first.flow(client) as data,
    ):
        transfer = data.start()
        wait_until_established(data)
        client.probe.steering(data.stream).create_subflow(
            client.address(1), 1, second.machine.address(1), second.port
        )
        refused = eventually(
            lambda: second.machine.probe.counters().delta(before),
            until=lambda moved: moved.mptcp("MPJoinSynRx") or moved.mptcp("MPJoinNoTokenFound"),
            within=20,
            what="the join at the second proxy",
        )
        arrived = data.record().bytes_received
        eventually(
            lambda: data.record().bytes_received,
            until=lambda nbytes: nbytes >= arrived + ENOUGH_BYTES,
            within=10,
        )
        pairs, still = data.pairs(), is_mptcp(data.stream)
        ended = data.end(transfer)
        packets = capture.stop()
    evidence.packets(rows(packets, second.machine.name, device))
    evidence.document("counters of the second proxy", refused.changes())
    assert len(joins(packets)) == 1, (
        f"one join was expected at {second.machine.name}: {format_segments(packets)}"
    )
    assert reset_reasons(packets) == ["MPTCP-specific error"], f"the answer: {format_segments(packets)}"
    assert refused.mptcp("MPJoinNoTokenFound") == 1, f"counters of the second proxy: {refused.changes()}"
    assert pairs == {(client.address(0), first.machine.address(0))}, "subflows of the first connection"
    assert still, "the first connection fell back to TCP"
    assert ended.intact, ended.difference


@claim("SPLIT-8", requires=(TWO_PATHS, CABLES_OF_DYING_PROXY))
@pytest.mark.parametrize("death", DEATHS)
def test_application_level(
    machines: Session, client: Machine, targets: tuple[Target, Target], evidence: EvidenceBox, death: str
) -> None:
    """An application's stream over two TCP connections, one per proxy, survives the loss of either."""
    check_survives(machines, client, targets, UPLOAD, death, evidence)


@claim("SPLIT-8", requires=(TWO_PATHS, CABLES_OF_DYING_PROXY))
@pytest.mark.parametrize(
    ("targets", "direction", "death"),
    [(FIRST_ENGINE, DOWNLOAD, "first-killed"), (LAST_ENGINE, BOTH, "second-cables-out")],
    indirect=["targets"],
)
def test_application_sends_back(
    machines: Session,
    client: Machine,
    targets: tuple[Target, Target],
    evidence: EvidenceBox,
    direction: str,
    death: str,
) -> None:
    """The same for a stream from B to A, and for one in each direction at once."""
    check_survives(machines, client, targets, direction, death, evidence)
