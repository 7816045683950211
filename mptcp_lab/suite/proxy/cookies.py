"""Put SYN cookies in force on a listener's host (PROXY-13), and check its limits meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mptcp_lab.errors import Unsupported
from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import eventually
from mptcp_lab.suite.directions import BOTH, Movement
from mptcp_lab.suite.expectations import expected_pairs
from mptcp_lab.suite.traffic import Target, is_mptcp

#: The value with which a kernel answers each SYN by a cookie, not only when its queue is full.
ALWAYS = 2
MORE_BYTES = 100_000


@contextmanager
def cookies_in_force(machine: Machine, evidence: EvidenceBox) -> Iterator[None]:
    """Let a machine's kernel answer each SYN by a cookie in the block, and check that it has done so.

    Raises:
        Unsupported: the kernel was built without SYN cookies.
    """
    before = machine.probe.counters()
    if not before.has("SyncookiesSent", "TcpExt"):
        raise Unsupported("SYN cookies", "the kernel counts none (TcpExt SyncookiesSent)", machine.name)
    with machine.probe.fault("sysctl", name="net.ipv4.tcp_syncookies", value=ALWAYS):
        yield
    grown = machine.probe.counters().delta(before)
    sent, came = (grown["TcpExt", f"Syncookies{what}"] for what in ("Sent", "Recv"))
    evidence.figure("SYN cookies sent", sent)
    evidence.figure("SYN cookies that came back", came)
    assert came >= 1, f"{machine.name} sent {sent} SYN cookies and {came} came back: none was in use"


def check_limit_holds(client: Machine, target: Target, evidence: EvidenceBox) -> None:
    """Check that a target whose limit is one further subflow accepts one of a client's joins, and no more."""
    machine, wanted = target.machine, len(expected_pairs(client, target.machine).present) - 1
    with machine.probe.fault("limits", subflows=1, add_addr_accepted=0), target.flow(client) as data:
        before = data.opening.before[1]
        movement = Movement(data, BOTH)
        eventually(
            lambda: machine.probe.counters().delta(before).mptcp("MPJoinSynRx"),
            until=lambda asked: asked >= wanted,
            within=10,
            what=f"joins that {machine.name} was asked for",
        )
        movement.wait_for(MORE_BYTES, within=10, what="octets after the joins")
        pairs, grown = data.pairs(), machine.probe.counters().delta(before)
        assert is_mptcp(data.stream), "the connection fell back to TCP"
        moved = movement.end()
    evidence.figure("joins asked for", grown.mptcp("MPJoinSynRx"))
    evidence.figure("joins accepted", grown.mptcp("MPJoinAckRx"))
    assert grown.mptcp("MPJoinAckRx") == 1, "joins that were accepted with a limit of one"
    assert len(pairs) == 2, f"subflows with a limit of one further: {sorted(pairs)}"
    moved.check_intact()
