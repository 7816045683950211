"""PROXY-9: the effect of a proxy's reload and restart on connections."""

import uuid

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.probe import eventually
from mptcp_lab.suite.proxy import engines
from mptcp_lab.suite.proxy.balancing import begin
from mptcp_lab.suite.proxy.counts import accepted_count, keep
from mptcp_lab.suite.proxy.proxies import ends
from mptcp_lab.suite.traffic import Target, is_mptcp

LOAD = 1000
ENOUGH_BYTES = 200_000


@claim("PROXY-9", case="reload")
def test_reload(client: Machine, target: Target, evidence: EvidenceBox) -> None:
    """A reload under load drops no connection, old or new, and the listener speaks MPTCP afterwards."""
    before, counted = engines.workers(target), accepted_count(target)
    with target.flow(client) as data:
        transfer = data.start()
        data.record()
        load = begin(client, target.machine.address(), target.port, uuid.uuid4().hex, LOAD, concurrent=4)
        engines.reload(target)
        eventually(
            lambda: engines.workers(target), until=lambda now: now - before, within=10, what="new workers"
        )
        data.wait_for_bytes(ENOUGH_BYTES)
        ended, done = data.end(transfer), load.wait()
    counted = accepted_count(target) - counted - 1  # the stream is not a part of the load
    with target.flow(client) as after:
        assert is_mptcp(after.stream), "the listener speaks plain TCP after the reload"
    evidence.figure("longest pause of the stream", 1000 * ended.got.received.max_gap, "ms")
    keep(evidence, client=done.completed, origin=counted)
    assert (done.completed, done.mptcp, dict(done.failed)) == (LOAD, LOAD, {}), "new connections were lost"
    assert counted == LOAD, "client and origin do not count the same"
    assert ended.intact, ended.difference


@claim("PROXY-9", case="restart")
def test_restart(client: Machine, target: Target) -> None:
    """A restart ends established connections, as documented, and the listener speaks MPTCP afterwards."""
    with target.flow(client) as data:
        data.start()
        answer = data.stream.receive()
        data.record()
        engines.restart(target)
        seen, _ = ends(answer, data.stream.at, within=10)
    with target.flow(client) as after:
        assert is_mptcp(after.stream), "the listener speaks plain TCP after the restart"
        served = after.upload(65536)
    assert seen.end in ("eof", "error"), f"A's connection through the restart: {seen.end}"
    assert served.intact, served.difference
