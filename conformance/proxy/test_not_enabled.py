"""PROXY-12: a listener for which MPTCP was not enabled."""

import pytest

from mptcp_lab.inventory.engines import PROXIES
from mptcp_lab.machines.session import Machine, Session
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.packets import capable, format_segments, rows, tcp_capture
from mptcp_lab.suite.proxy.targets import proxy_target
from mptcp_lab.suite.requirements import TCP_LISTENER
from mptcp_lab.suite.traffic import is_mptcp
from mptcp_lab.wire.packet import SYN


@claim("PROXY-12", requires=TCP_LISTENER)
@pytest.mark.parametrize("engine", PROXIES)
def test_falls_back(client: Machine, machines: Session, evidence: EvidenceBox, engine: str) -> None:
    """A listener without MPTCP answers without it: A falls back to TCP, and the data arrives."""
    target = proxy_target(machines, f"{engine}-off")
    before = client.probe.counters()
    with tcp_capture(client, target.port, [nic.device for nic in client.paths]) as capture:
        with target.flow(client) as data:
            still_mptcp = is_mptcp(data.stream)
            ended = data.upload(65536)
        packets = capture.stop()
    moved = client.probe.counters().delta(before)
    evidence.packets(rows(packets, client.name))
    asked = [capable(s) for s in packets if s.flags & SYN]
    assert asked == [True, False], (
        f"a SYN with MP_CAPABLE and an answer without: {format_segments(packets, 2)}"
    )
    assert not still_mptcp, "A speaks MPTCP with a listener that has it switched off"
    fallen = moved.mptcp("MPCapableFallbackSYNACK")
    assert fallen == 1, f"A counted {fallen} fallbacks (MPCapableFallbackSYNACK) for one connection"
    assert ended.intact, ended.difference
