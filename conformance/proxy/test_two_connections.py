"""PROXY-4: the proxy's two legs are two connections."""

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.packets import segments
from mptcp_lab.suite.proxy.proxies import acknowledged_on_legs, ahead_of_backend, not_reading
from mptcp_lab.suite.traffic import Target

#: The first is more than B takes without reading. The second is less than the proxy's own buffers take beyond
#: that.
SOME_BYTES, AHEAD_BYTES = 4 << 20, 1 << 16


@claim("PROXY-4")
def test_acknowledges_by_itself(client: Machine, target: Target, evidence: EvidenceBox) -> None:
    """While B does not read, the proxy acknowledges data of A (DATA_ACK) that B's kernel does not have."""
    with target.machine.probe.capture(target.machine.devices) as capture, target.flow(client) as data:
        data.stream.send(0, header=data.greeting("sink")).wait(20)
        data.record()
        with not_reading(target, data):
            transfer = data.stream.send(SOME_BYTES, seed=data.tag, chunk=16384, interval=0.001)
            ahead_of_backend(target, data, AHEAD_BYTES)
            legs = acknowledged_on_legs(segments(capture.stop()), target)
        ended = data.end(transfer)
    evidence.figure("acknowledged to A by DATA_ACK", legs.front, "bytes")
    evidence.figure("acknowledged by B", legs.back, "bytes")
    # The check waited for `AHEAD_BYTES` before, and the capture ends later. With one connection from end to
    # end A could not have more acknowledgements than B has sent.
    assert legs.front > legs.back, "A has acknowledgements only of what B acknowledged"
    assert ended.intact, ended.difference
