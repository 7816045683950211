"""PROXY-11: the cost of a proxy, compared with a direct connection in the same run."""

import uuid
from contextlib import AbstractContextManager

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.expectations import origin_of
from mptcp_lab.suite.proxy.balancing import begin
from mptcp_lab.suite.proxy.counts import Counts
from mptcp_lab.suite.proxy.engines import cpu_seconds
from mptcp_lab.suite.requirements import ORIGIN
from mptcp_lab.suite.traffic import Flow, Target, flow

BULK_BYTES = 64 << 20
CONNECTIONS = 500


def goodput(opened: AbstractContextManager[Flow]) -> float:
    """Return the goodput of a bulk transfer in Mbit/s, from the first byte at B to the last."""
    with opened as data:
        ended = data.upload(BULK_BYTES)
    assert ended.intact, ended.difference
    return ended.goodput


def rate(client: Machine, address: str, port: int, protocol: str = "mptcp") -> float:
    """Return how many short connections, one after another, complete per second."""
    tag = uuid.uuid4().hex
    done = begin(client, address, port, tag, CONNECTIONS, protocol=protocol).wait()
    assert done.completed == CONNECTIONS, f"not all were served: {done.failed}"
    return CONNECTIONS / done.seconds


@claim("PROXY-11", requires=ORIGIN)
def test_cost(client: Machine, server: Machine, target: Target, evidence: EvidenceBox) -> None:
    """Measure goodput and connection rate relative to direct MPTCP and TCP, and CPU time per gigabit."""
    origin, to = origin_of(server), server.address()
    before, used = Counts.read(target), cpu_seconds(target)
    through = goodput(target.flow(client))
    used = cpu_seconds(target) - used
    connections = rate(client, target.machine.address(), target.port)
    before.check_agreement(target, CONNECTIONS + 1, evidence)
    evidence.figure("goodput", through, "Mbit/s")
    evidence.figure("connections per second", connections)
    evidence.figure("CPU per gigabit", 1000 * used / (8e-9 * BULK_BYTES), "ms")
    for protocol in ("mptcp", "tcp"):
        direct = goodput(flow(client, to, origin.port, server, origin, protocol=protocol))
        evidence.figure(f"goodput over direct {protocol}", through / direct)
        evidence.figure(
            f"connection rate over direct {protocol}", connections / rate(client, to, origin.port, protocol)
        )
