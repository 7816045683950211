"""Check that the first data joins every NIC with every address that it reaches (DIRECT-3)."""

from __future__ import annotations

from contextlib import ExitStack

from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.inventory.model import Nic
from mptcp_lab.machines.session import Machine
from mptcp_lab.suite.deviations import FIRST_UNBOUND, find_correction, keep, keep_self_joins
from mptcp_lab.suite.expectations import direct_flow, expected_pairs, origin_of, wait_for_joins
from mptcp_lab.suite.packets import first_syns, rows, tcp_capture
from mptcp_lab.suite.sockets import AddressPair


def check_joins_all(client: Machine, server: Machine, family: int, evidence: EvidenceBox) -> None:
    """Check that the expected subflows of a family come up, each on its own NIC; keep how many there are.

    Subflows of the other family may come up as well. The check reads every NIC's capture and byte counters,
    because an endpoint without a device has perfect join counters while its join leaves by another NIC. The
    server must count a third packet for each join, because a client counts a join as established as soon as
    its SYN/ACK arrives. Joins to the client's own addresses, and the NIC of joins from the first subflow's
    address, are ignored if its kernel is known for them.
    """
    port = origin_of(server).port
    before = client.probe.nics()
    with ExitStack() as opened:
        captures = {
            nic: opened.enter_context(tcp_capture(client, port, [nic.device])) for nic in client.paths
        }
        data = opened.enter_context(direct_flow(client, server, family))
        transfer = data.start()
        joined = wait_for_joins(data, expected_pairs(client, server, family))
        moved = server.probe.counters().delta(data.opening.before[1])
        ended = data.end(transfer)
        captured = {nic: capture.stop(may_be_empty=True) for nic, capture in captures.items()}
    joined.keep(evidence)
    now, expected = client.probe.nics(), joined.matrix
    syns = {nic: {(str(s.src), str(s.dst)) for s in first_syns(packets)} for nic, packets in captured.items()}
    to_itself = keep_self_joins(client, set().union(*syns.values()), evidence)
    by_route = keep_joins_by_route(client, syns, family, evidence)
    for nic, packets in captured.items():
        evidence.packets(rows(packets, client.name, nic.device), name=f"packets on {nic.device}")
        tried = syns[nic] - to_itself - by_route
        mine = {str(nic.address(each)) for each in (4, 6)}
        unseen = {pair for pair in expected.addresses if pair[0] in mine} - tried - by_route
        assert not unseen, f"no SYN was captured on {nic.device} of {client.name} for {sorted(unseen)}"
        assert {local for local, _ in tried} <= mine, f"SYNs on {nic.device} of another NIC: {tried}"
        assert now[nic.device].delta(before[nic.device]).tx_bytes, f"nothing left by {nic.device}"
    joined.check_exact(family)
    assert moved.mptcp("MPJoinAckRx") >= len(joined) - 1, (
        f"{server.name} counted fewer joins than {joined.pairs}"
    )
    assert ended.intact, ended.difference


def keep_joins_by_route(
    client: Machine, syns: dict[Nic, set[AddressPair]], family: int, evidence: EvidenceBox
) -> set[AddressPair]:
    """Return the pairs of the first subflow's address whose SYNs left by another NIC; keep how many.

    The set is empty unless the client's kernel is known to choose the NIC of these joins by its routes.
    """
    correction = find_correction(FIRST_UNBOUND, client.probe.kernel)
    if correction is None:
        return set()
    first, address = client.paths[0], client.address(0, family)
    found = {pair for nic, pairs in syns.items() if nic != first for pair in pairs if pair[0] == address}
    if found:
        keep(correction, evidence)
        evidence.figure("joins by another NIC, a known deviation", len(found))
    return found
