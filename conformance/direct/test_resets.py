"""DIRECT-25: a subflow is ended from outside, and a join is dropped by a connection tracker."""

import pytest

from mptcp_lab.machines.session import Machine, Session
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.direct import resets, routed_tracker
from mptcp_lab.suite.expectations import direct_flow
from mptcp_lab.suite.find.hosts import find_router
from mptcp_lab.suite.requirements import FULL_MESH, ORIGIN, ROUTER, TWO_PATHS


@claim("DIRECT-25", requires=(ORIGIN, TWO_PATHS, FULL_MESH))
@pytest.mark.parametrize("ending", resets.ENDINGS)
def test_subflow_ended_from_outside(
    client: Machine, server: Machine, evidence: EvidenceBox, ending: str
) -> None:
    """The first subflow is ended from outside: the connection goes on over the others, both ways."""
    resets.check_goes_on(client, server, ending, evidence)


@claim("DIRECT-25", case="join-invalid", requires=(ORIGIN, TWO_PATHS, FULL_MESH))
def test_join_called_invalid(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """A tracker drops the answers to joins as INVALID: the cause names it, and the connection goes on."""
    with resets.blind_tracker(client, server), direct_flow(client, server) as data:
        transfer = data.start()
        missing, cause = resets.diagnose_missing(client, server, data)
        ended = data.end(transfer)
    evidence.text("why subflows are missing", cause)
    assert missing, "every subflow came up past the tracker"
    assert {local for local, _ in missing} == {client.address(1)}, f"subflows are missing: {missing}"
    assert "connection tracker called" in cause, f"the cause does not name the tracker: {cause}"
    assert ended.intact, ended.difference


@claim("DIRECT-25", case="tracker-at-gateway", requires=(ORIGIN, TWO_PATHS, FULL_MESH, ROUTER))
def test_tracker_at_gateway(
    client: Machine, server: Machine, machines: Session, evidence: EvidenceBox
) -> None:
    """The gateway's tracker has no entry for a subflow and rejects its packets: the connection goes on."""
    router = machines.machine_of(find_router(machines.lab))
    routed_tracker.check_goes_on_without(client, router, server, evidence)


@claim("DIRECT-25", case="join-invalid-at-gateway", requires=(ORIGIN, TWO_PATHS, FULL_MESH, ROUTER))
def test_join_called_invalid_at_gateway(
    client: Machine, server: Machine, machines: Session, evidence: EvidenceBox
) -> None:
    """The gateway's tracker drops the answer to a join as INVALID: the cause names the gateway."""
    router = machines.machine_of(find_router(machines.lab))
    routed_tracker.check_join_named(client, router, server, evidence)
