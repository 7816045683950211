"""SPLIT-9: two MPTCP servers behind a layer-4 balancer with one shared address."""

import pytest

from mptcp_lab.machines.session import Session
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.packets import answers, tcp_capture
from mptcp_lab.suite.requirements import BALANCED
from mptcp_lab.suite.split.balancer import balancer, check_refuses, lost_joins, wait_for_own_join

SHARED_PORT, OWN_PORT = 7400, 7401


@claim("SPLIT-9", requires=BALANCED)
@pytest.mark.parametrize("own_port", [0, OWN_PORT], ids=["own-address", "own-port"])
def test_joins_its_server(machines: Session, evidence: EvidenceBox, own_port: int) -> None:
    """A client at default limits joins the address that its own server announced, and no other server."""
    with balancer(machines, SHARED_PORT, own_port) as balancing:
        client, before = balancing.client, [s.machine.probe.counters() for s in balancing.servers]
        with (
            tcp_capture(client, SHARED_PORT, [client.paths[0].device]) as capture,
            balancing.connection_to_each() as connections,
        ):
            joined = {s.machine.name: wait_for_own_join(client, s, stream) for s, stream in connections}
            syn_acks = answers(capture.stop())
        lost = lost_joins(balancing, before)
    evidence.document("subflows to what each server announced", {k: sorted(v) for k, v in joined.items()})
    assert len(joined) == len(balancing.servers), f"all connections went to {sorted(joined)}"
    assert not lost, f"joins at a server without the connection: {lost}"
    assert syn_acks and all(o.no_join_initial for o in syn_acks), "a SYN/ACK has no C flag"


@claim("SPLIT-9", case="port-endpoint", requires=BALANCED)
@pytest.mark.parametrize("protocol", ["mptcp", "tcp"])
def test_port_endpoint(machines: Session, evidence: EvidenceBox, protocol: str) -> None:
    """The port that a server announces for joins never accepts a new connection."""
    with balancer(machines, SHARED_PORT, OWN_PORT) as balancing:
        check_refuses(balancing, protocol, evidence)
