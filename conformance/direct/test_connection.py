"""DIRECT-1 to DIRECT-4: how a connection begins, when other subflows join it, what the application sees."""

import errno
import time

import pytest

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.probe import ConnectFailed
from mptcp_lab.suite.direct.fullmesh import joins_all
from mptcp_lab.suite.expectations import (
    announcing_nothing,
    direct_flow,
    expected_pairs,
    origin_of,
    wait_for_joins,
)
from mptcp_lab.suite.packets import first_syns, joins, joins_sent, of_port, rows, segments, shown
from mptcp_lab.suite.traffic import is_mptcp
from mptcp_lab.wire import AddAddr

IDLE_SECONDS = 1.0


@claim("DIRECT-1")
@pytest.mark.parametrize("fault", ["drop", "reject"])
def test_first_path_only(a: Machine, b: Machine, evidence: EvidenceBox, fault: str) -> None:
    """connect() fails when A-1 cannot reach B, and A-2 is not tried."""
    others = [nic.device for nic in a.paths[1:]]
    with a.probe.capture(others) as capture, b.probe.fault(fault, source=a.address(0)):
        with pytest.raises(ConnectFailed) as failed:
            a.probe.connect(b.address(0), origin_of(b).port, within=2.0)
        tried = first_syns(of_port(segments(capture.stop()), origin_of(b).port))
    evidence.figure("failed after", 1000 * failed.value.seconds, "ms")
    assert failed.value.errno == {"drop": errno.ETIMEDOUT, "reject": errno.ECONNREFUSED}[fault]
    assert not tried, f"A-2 was tried: {shown(tried)}"


@claim("DIRECT-2")
def test_idle_connection(a: Machine, b: Machine, evidence: EvidenceBox) -> None:
    """No MP_JOIN while a connection has carried nothing: B, told to, announces no address."""
    with announcing_nothing(b), a.probe.capture(a.devices) as capture, direct_flow(a, b) as idle:
        before = a.probe.counters()
        time.sleep(IDLE_SECONDS)  # the claim is that nothing happens in this time
        facts, moved = idle.stream.facts(), a.probe.counters().delta(before)
        asked = joins(of_port(segments(capture.stop()), origin_of(b).port))
        assert is_mptcp(idle.stream)
    evidence.document("A's socket", facts)
    assert not asked, f"MP_JOIN before the first data: {shown(asked)}"
    assert joins_sent(moved, asked) == 0
    assert len(facts.subflows) == 1


@claim("DIRECT-2", case="announced")
def test_idle_connection_with_announcements(a: Machine, b: Machine, evidence: EvidenceBox) -> None:
    """Where B announces addresses, its first ADD_ADDR stands for the first data, and joins follow at once."""
    with a.probe.capture(a.devices) as capture, direct_flow(a, b) as idle:
        joined = wait_for_joins(idle, expected_pairs(a, b))
        packets = of_port(segments(capture.stop()), origin_of(b).port)
    announced = next(s for s in packets if any(isinstance(o, AddAddr) for o in s.options))
    asked = joins(packets)
    evidence.packets(rows(packets, a.name, "", packets[0].time_ns))
    joined.keep(evidence)
    assert min(s.time_ns for s in asked) > announced.time_ns, f"joined before ADD_ADDR: {shown(asked)}"


@claim("DIRECT-3")
def test_fullmesh(a: Machine, b: Machine, evidence: EvidenceBox) -> None:
    """The first data joins every A NIC with every address of B that it reaches, each on its own NIC."""
    joins_all(a, b, 4, evidence)


@claim("DIRECT-4")
def test_one_connection(a: Machine, b: Machine, evidence: EvidenceBox) -> None:
    """Whatever the number of subflows, B accepts once and A holds one socket."""
    origin = b.probe.origin(origin_of(b).name)
    accepted, sockets = origin.counts()["accepted"], a.sockets()
    with direct_flow(a, b) as data:
        transfer = data.start()
        joined = wait_for_joins(data, expected_pairs(a, b))
        held = a.sockets() - sockets
        ended = data.end(transfer)
    taken = origin.counts()["accepted"] - accepted
    joined.keep(evidence)
    evidence.figure("sockets at A", held)
    evidence.figure("connections accepted by B", taken)
    assert (held, taken) == (1, 1)
    assert ended.intact
