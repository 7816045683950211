"""DIRECT-1 to DIRECT-4: how a connection begins, when other subflows join it, what the application sees."""

import errno
import time

import pytest

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim, mark_fast
from mptcp_lab.probe import ConnectFailed
from mptcp_lab.suite.direct.fullmesh import check_joins_all
from mptcp_lab.suite.expectations import (
    announcing_nothing,
    direct_flow,
    expected_pairs,
    origin_of,
    wait_for_joins,
)
from mptcp_lab.suite.packets import (
    announcements,
    first_syns,
    format_segments,
    joins,
    joins_sent,
    rows,
    tcp_capture,
)
from mptcp_lab.suite.requirements import FULL_MESH, ORIGIN, TWO_PATHS
from mptcp_lab.suite.traffic import is_mptcp

IDLE_SECONDS = 1.0


@claim("DIRECT-1", requires=(ORIGIN, TWO_PATHS))
@pytest.mark.parametrize("fault", ["drop", pytest.param("reject", marks=mark_fast())])
def test_first_path_only(client: Machine, server: Machine, evidence: EvidenceBox, fault: str) -> None:
    """connect() fails when A-1 cannot reach B, and A-2 is not tried."""
    others, port = [nic.device for nic in client.paths[1:]], origin_of(server).port
    with tcp_capture(client, port, others) as capture, server.probe.fault(fault, source=client.address(0)):
        with pytest.raises(ConnectFailed) as failed:
            client.probe.connect(server.address(0), port, within=2.0)
        tried = first_syns(capture.stop(may_be_empty=True))
    evidence.figure("failed after", 1000 * failed.value.seconds, "ms")
    expected = {"drop": errno.ETIMEDOUT, "reject": errno.ECONNREFUSED}[fault]
    assert failed.value.errno == expected, f"connect() failed otherwise: {failed.value}"
    assert not tried, f"A-2 was tried: {format_segments(tried)}"


@claim("DIRECT-2", requires=ORIGIN)
def test_idle_connection(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """A connection without data sends no MP_JOIN, if B is set to announce no address."""
    with (
        announcing_nothing(server),
        tcp_capture(client, origin_of(server).port) as capture,
        direct_flow(client, server) as idle,
    ):
        before = client.probe.counters()
        time.sleep(IDLE_SECONDS)  # the claim is that nothing happens in this time
        facts, moved = idle.stream.facts(), client.probe.counters().delta(before)
        asked = joins(capture.stop())
        assert is_mptcp(idle.stream), "the connection fell back to TCP"
    evidence.document("A's socket", facts)
    assert not asked, f"MP_JOIN before the first data: {format_segments(asked)}"
    assert joins_sent(moved, asked) == 0, "A counted joins before the first data (MPJoinSynTx)"
    assert len(facts.subflows) == 1, f"an idle connection has {len(facts.subflows)} subflows"


@claim("DIRECT-2", case="announced", requires=(ORIGIN, FULL_MESH))
def test_idle_connection_with_announcements(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """Where B announces addresses, joins follow its first ADD_ADDR at once, without any data."""
    with tcp_capture(client, origin_of(server).port) as capture, direct_flow(client, server) as idle:
        joined = wait_for_joins(idle, expected_pairs(client, server))
        packets = capture.stop()
    announced, asked = announcements(packets), joins(packets)
    evidence.packets(rows(packets, client.name))
    joined.keep(evidence)
    assert announced, f"no ADD_ADDR was captured, only {format_segments(packets)}"
    assert asked, f"no join was captured, only {format_segments(packets)}"
    assert asked[0].time_ns > announced[0].time_ns, f"joined before ADD_ADDR: {format_segments(asked)}"


@claim("DIRECT-3", requires=(ORIGIN, FULL_MESH))
def test_fullmesh(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """The first data joins every A NIC with every address of B that it reaches, each on its own NIC."""
    check_joins_all(client, server, 4, evidence)


@claim("DIRECT-4", requires=(ORIGIN, FULL_MESH))
def test_one_connection(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """Whatever the number of subflows, B accepts once and A holds one socket."""
    origin = server.probe.origin(origin_of(server).name)
    accepted, sockets = origin.counts()["accepted"], client.sockets()
    with direct_flow(client, server) as data:
        transfer = data.start()
        joined = wait_for_joins(data, expected_pairs(client, server))
        held = client.sockets() - sockets
        ended = data.end(transfer)
    taken = origin.counts()["accepted"] - accepted
    joined.keep(evidence)
    evidence.figure("sockets at A", held)
    evidence.figure("connections accepted by B", taken)
    assert (held, taken) == (1, 1), f"A holds {held} sockets, B accepted {taken} connections"
    assert ended.intact, ended.difference
