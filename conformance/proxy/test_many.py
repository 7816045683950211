"""PROXY-10 and PROXY-14: very many connections; all ends count the same, and nothing remains of them."""

import hashlib
import uuid

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.probe import Batch
from mptcp_lab.suite.directions import BOTH, Movement
from mptcp_lab.suite.expectations import subflows_to, wait_for_joins
from mptcp_lab.suite.proxy.balancing import begin
from mptcp_lab.suite.proxy.counts import Counts
from mptcp_lab.suite.proxy.remains import no_fallback, nothing_remains
from mptcp_lab.suite.requirements import PROXY_MESH
from mptcp_lab.suite.traffic import Target, greeting

AT_ONCE = 1000
#: The load of PROXY-14.
LOAD = 300
IN_TURN = 10_000
MESSAGE = b"x" * 1000
#: The most connections in TIME-WAIT at A. Ten thousand would take nearly all of its ports, and then each join
#: takes long to find a free one: ten times as long as all the rest.
TIME_WAITS = 2000


def check_all_served(done: Batch, count: int, evidence: EvidenceBox) -> None:
    """Check that every connection got its answer over MPTCP."""
    evidence.figure("connections per second", done.completed / done.seconds)
    assert (done.completed, dict(done.failed)) == (count, {}), f"not all were served: {done.failed}"
    assert done.mptcp == count, "not all of the connections were MPTCP"


@claim("PROXY-10", case="at-once")
def test_at_once(client: Machine, target: Target, evidence: EvidenceBox) -> None:
    """A thousand connections are open at the same time, and each gets its own data back."""
    tag, before = uuid.uuid4().hex, Counts.read(target)
    message = greeting("echo", tag) + MESSAGE
    batch = client.probe.many(
        target.machine.address(), target.port, message, len(MESSAGE), AT_ONCE, AT_ONCE, hold=True, within=60
    )
    done = batch.wait()
    check_all_served(done, AT_ONCE, evidence)
    before.check_agreement(target, done.completed, evidence)
    assert done.most_open == AT_ONCE, f"at most {done.most_open} connections were open at once"
    own = {hashlib.sha256(MESSAGE).hexdigest(): AT_ONCE}
    assert done.digests == own, "not every connection got its own data back"


@claim("PROXY-10", case="in-turn")
def test_in_turn(client: Machine, target: Target, evidence: EvidenceBox) -> None:
    """Ten thousand connections come one after another, and none is lost."""
    tag, before = uuid.uuid4().hex, Counts.read(target)
    with client.probe.fault("sysctl", ttl=400, name="net.ipv4.tcp_max_tw_buckets", value=TIME_WAITS):
        done = begin(client, target.machine.address(), target.port, tag, IN_TURN, within=300).wait()
    check_all_served(done, IN_TURN, evidence)
    before.check_agreement(target, done.completed, evidence)
    assert len(done.digests) == 1, "not all got the same answer"


@claim("PROXY-14", requires=PROXY_MESH)
def test_nothing_remains(client: Machine, target: Target, evidence: EvidenceBox) -> None:
    """After many connections at once no socket remains anywhere, and the next one gets all its subflows."""
    message, to = greeting("echo", uuid.uuid4().hex) + MESSAGE, (target.machine.address(), target.port)
    with (
        no_fallback(client, target.machine),
        nothing_remains((client, target.machine, target.origin), evidence),
    ):
        done = client.probe.many(*to, message, len(MESSAGE), LOAD, LOAD, hold=True).wait()
        check_all_served(done, LOAD, evidence)
    with target.flow(client) as data:
        movement = Movement(data, BOTH)
        wait_for_joins(data, subflows_to(client, target)).keep(evidence)
        moved = movement.end()
    moved.check_intact()
