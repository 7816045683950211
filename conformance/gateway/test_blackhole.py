"""GATEWAY-6: a client that suspects a black hole uses TCP for a while, and MPTCP again afterwards."""

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.gateway.blackhole import (
    check_growth_is_reset,
    off_seconds,
    quick_suspicion,
    suspect,
)
from mptcp_lab.suite.gateway.routing import routed_target
from mptcp_lab.suite.packets import capable, first_syns, format_segments, tcp_capture
from mptcp_lab.suite.requirements import ORIGIN, SERVER_BEHIND_ROUTER


@claim("GATEWAY-6", requires=(ORIGIN, SERVER_BEHIND_ROUTER))
def test_tcp_for_a_while(client: Machine, server: Machine, router: Machine, evidence: EvidenceBox) -> None:
    """After a lost SYN, connections are TCP at once for blackhole_timeout; a success resets its growth."""
    target = routed_target(router, client, server)
    off = off_seconds()
    with quick_suspicion(client, off):
        suspect(client, router, server, target).check_off_for(off, evidence, "first")
        again = suspect(client, router, server, target)
    check_growth_is_reset(again, off, client, evidence)


@claim("GATEWAY-6", case="switched-off", requires=(ORIGIN, SERVER_BEHIND_ROUTER))
def test_switched_off(client: Machine, server: Machine, router: Machine) -> None:
    """With a timeout of 0 a lost SYN has no consequence for the next connection."""
    target = routed_target(router, client, server)
    with quick_suspicion(client, 0):
        with router.probe.fault("drop_option", dport=target.port), target.flow(client, within=10) as data:
            fallen_back = data.upload(1000)
        with tcp_capture(client, target.port, [client.paths[0].device]) as capture:
            with target.flow(client) as data:
                ended = data.upload(1000)
            syns = first_syns(capture.stop())
    assert not fallen_back.got.is_mptcp, "the connection is MPTCP although its first SYN was dropped"
    assert capable(syns[0]), f"the next connection did not ask for MPTCP: {format_segments(syns)}"
    assert ended.got.is_mptcp, "the next connection is plain TCP"
