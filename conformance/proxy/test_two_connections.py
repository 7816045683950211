"""PROXY-4: the proxy's two legs are two connections."""

from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.packets import segments
from mptcp_lab.suite.proxies import acknowledged, all_acknowledged, not_reading
from mptcp_lab.suite.session import Machine
from mptcp_lab.suite.traffic import Front

#: More than a receive window that has not grown.
SOME_BYTES = 1 << 20


@claim("PROXY-4")
def test_acknowledges_by_itself(a: Machine, front: Front, evidence: EvidenceBox) -> None:
    """With B stalled, the proxy acknowledges all of A's data (DATA_ACK), which B does not have."""
    with front.machine.probe.capture(front.machine.devices) as capture, front.flow(a) as data:
        data.stream.send(0, header=data.greeting("sink")).wait(20)
        data.record()
        with not_reading(front, data):
            transfer = data.stream.send(SOME_BYTES, seed=data.tag, chunk=16384, interval=0.001)
            all_acknowledged(data, SOME_BYTES)
            legs = acknowledged(segments(capture.stop()), front)
        ended = data.end(transfer)
    evidence.figure("acknowledged to A by DATA_ACK", legs.front, "bytes")
    evidence.figure("acknowledged by B", legs.back, "bytes")
    assert legs.front >= SOME_BYTES > legs.back
    assert ended.intact
