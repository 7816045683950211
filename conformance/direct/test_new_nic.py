"""DIRECT-10: the live connection moves to a NIC that was not there when it began."""

from contextlib import ExitStack

import pytest

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.direct.spare import appears, room_for, spare_nic
from mptcp_lab.suite.expectations import direct_flow, origin_of, wait_for_joins
from mptcp_lab.suite.packets import joins, rows, tcp_capture
from mptcp_lab.suite.requirements import FULL_MESH, ORIGIN, SPARE_NIC

ENOUGH_BYTES = 50_000


@claim("DIRECT-10", requires=(ORIGIN, SPARE_NIC, FULL_MESH))
@pytest.mark.parametrize("owner", ["kernel", "mptcpd"])
def test_new_nic(client: Machine, server: Machine, evidence: EvidenceBox, owner: str) -> None:
    """A-3 appears, then A-1 and A-2 go down: the stream goes on over A-3, and arrives whole."""
    spare = spare_nic(client)
    port = origin_of(server).port
    with (
        room_for(client, server, spare, evidence) as reachable,
        tcp_capture(client, port, [spare.device]) as capture,
        direct_flow(client, server) as data,
    ):
        transfer = data.start()
        wait_for_joins(data, reachable)
        data.wait_for_bytes(ENOUGH_BYTES)
        with appears(client, spare, owner), ExitStack() as gone:
            for nic in client.paths:
                gone.enter_context(client.probe.fault("link_down", device=nic.device))
            data.wait_for_bytes(ENOUGH_BYTES)
            moved = {pair for pair in data.pairs() if pair[0] == str(spare.address())}
            ended = data.end(transfer)
        packets = capture.stop()
    evidence.packets(rows(packets, client.name, spare.device))
    evidence.figure("gap", 1000 * ended.got.received.max_gap, "ms")
    assert joins(packets), f"nothing joined on {spare.device}"
    assert moved, "no subflow of A-3 was established"
    assert ended.intact, ended.difference
