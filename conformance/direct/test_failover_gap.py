"""DIRECT-12: how long the stream pauses when its first path is lost."""

import pytest

from mptcp_lab.machines.session import Machine, Session
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.directions import BOTH, DOWNLOAD
from mptcp_lab.suite.failover.gaps import first_path_lost, keep
from mptcp_lab.suite.failover.losses import FIREWALL, LOSSES
from mptcp_lab.suite.requirements import CABLE_OF_LOSS, FULL_MESH, ORIGIN, TWO_PATHS

STALE_LOSS_CNT = "net.mptcp.stale_loss_cnt"


@pytest.fixture
def repetitions(pytestconfig: pytest.Config) -> int:
    """Return how often each fault is repeated."""
    return int(pytestconfig.option.repetitions)


@claim("DIRECT-12", requires=(ORIGIN, TWO_PATHS, FULL_MESH, CABLE_OF_LOSS))
@pytest.mark.parametrize("loss", LOSSES)
def test_gap(
    client: Machine, server: Machine, machines: Session, evidence: EvidenceBox, repetitions: int, loss: str
) -> None:
    """Measure the gap over repetitions of one fault, by the probe's clock and by the capture at B."""
    evidence.figure("stale_loss_cnt", int(client.probe.sysctls()[STALE_LOSS_CNT]))
    keep(
        (
            first_path_lost(client, server, lambda: LOSSES[loss](machines, client, server))
            for _ in range(repetitions)
        ),
        evidence,
    )


@claim("DIRECT-12", requires=(ORIGIN, TWO_PATHS, FULL_MESH, CABLE_OF_LOSS))
@pytest.mark.parametrize(("direction", "loss"), [(DOWNLOAD, "cable-out-at-A"), (BOTH, FIREWALL)])
def test_gap_while_b_sends(
    client: Machine,
    server: Machine,
    machines: Session,
    evidence: EvidenceBox,
    repetitions: int,
    direction: str,
    loss: str,
) -> None:
    """Measure the gap of what B sends, at A; where both ends send, that of each direction."""
    evidence.figure("stale_loss_cnt", int(server.probe.sysctls()[STALE_LOSS_CNT]))
    fault = LOSSES[loss]
    keep(
        (
            first_path_lost(client, server, lambda: fault(machines, client, server), direction)
            for _ in range(repetitions)
        ),
        evidence,
    )


@claim("DIRECT-12", case="stale-loss-cnt", requires=(ORIGIN, TWO_PATHS, FULL_MESH))
@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_gap_by_stale_loss_cnt(
    client: Machine, server: Machine, machines: Session, evidence: EvidenceBox, repetitions: int, count: int
) -> None:
    """Measure the gap when B's firewall drops A-1, with other values of A's `stale_loss_cnt`."""
    evidence.figure("stale_loss_cnt", count)
    with client.probe.fault("sysctl", ttl=600, name=STALE_LOSS_CNT, value=count):
        loss = LOSSES[FIREWALL]
        keep(
            (
                first_path_lost(client, server, lambda: loss(machines, client, server))
                for _ in range(repetitions)
            ),
            evidence,
        )
