"""PROXY-11: what a proxy costs, against a direct connection in the same run."""

import uuid
from contextlib import AbstractContextManager

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.expectations import origin_of
from mptcp_lab.suite.proxy.balancing import begin
from mptcp_lab.suite.proxy.counts import Counts
from mptcp_lab.suite.proxy.engines import cpu_seconds
from mptcp_lab.suite.traffic import Flow, Front, flow

BULK_BYTES = 64 << 20
CONNECTIONS = 500


def goodput(opened: AbstractContextManager[Flow]) -> float:
    """Return the megabits per second of a bulk transfer, from the first byte at B to the last."""
    with opened as data:
        ended = data.upload(BULK_BYTES)
    assert ended.intact
    return ended.goodput


def rate(client: Machine, address: str, port: int, protocol: str = "mptcp") -> float:
    """Return how many short connections come to an end per second, one after another."""
    tag = uuid.uuid4().hex
    done = begin(client, address, port, tag, CONNECTIONS, protocol=protocol).wait()
    assert done.completed == CONNECTIONS, f"not all were served: {done.failed}"
    return CONNECTIONS / done.seconds


@claim("PROXY-11")
def test_cost(a: Machine, b: Machine, front: Front, evidence: EvidenceBox) -> None:
    """Goodput and connection rate through the proxy, over direct MPTCP and direct TCP; CPU per gigabit."""
    origin, to = origin_of(b), b.address()
    before, used = Counts.read(front), cpu_seconds(front)
    through = goodput(front.flow(a))
    used = cpu_seconds(front) - used
    connections = rate(a, front.machine.address(), front.port)
    before.agree(front, CONNECTIONS + 1, evidence)
    evidence.figure("goodput", through, "Mbit/s")
    evidence.figure("connections per second", connections)
    evidence.figure("CPU per gigabit", 1000 * used / (8e-9 * BULK_BYTES), "ms")
    for protocol in ("mptcp", "tcp"):
        direct = goodput(flow(a, to, origin.port, b, origin, protocol=protocol))
        evidence.figure(f"goodput over direct {protocol}", through / direct)
        evidence.figure(
            f"connection rate over direct {protocol}", connections / rate(a, to, origin.port, protocol)
        )
