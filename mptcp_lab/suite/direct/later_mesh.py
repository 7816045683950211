"""Let full-mesh endpoints and announcements come on a live connection, within limits (DIRECT-20)."""

from __future__ import annotations

from dataclasses import replace

from mptcp_lab.errors import Unsupported
from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.inventory.model import Nic
from mptcp_lab.probe import NewEndpoint, eventually
from mptcp_lab.suite.direct.endpoints import (
    FULLMESH,
    QUIET_BYTES,
    ROOM,
    SIGNAL,
    SUBFLOWS_TIMEOUT_S,
    Ends,
    connection,
)
from mptcp_lab.suite.direct.flags import wait_for_pairs
from mptcp_lab.suite.direct.several import third_path
from mptcp_lab.suite.expectations import matrix_between
from mptcp_lab.suite.packets import rows
from mptcp_lab.suite.sockets import AddressPair


def require_reachable(ends: Ends, nic: Nic, pairs: set[AddressPair]) -> None:
    """Raise `Unsupported` if the lab's network does not connect a pair when a NIC of the client is up."""
    client = ends.client
    nics = tuple(replace(each, up=True) if each.device == nic.device else each for each in client.host.nics)
    with_nic = replace(client, host=replace(client.host, nics=nics))
    if missing := pairs - matrix_between(with_nic, ends.server).possible:
        raise Unsupported("subflows between three paths", f"{sorted(missing)} do not reach each other")


def check_later_mesh(ends: Ends, evidence: EvidenceBox, further: int = ROOM) -> None:
    """Check that two full-mesh endpoints, which come at once, join every address that the client knows.

    They also join an address that the server announces after that. If the client allows only so many
    `further` subflows, just as many come up.
    """
    with (
        third_path(ends.client, ends.server) as (mine, theirs),
        ends.client.probe.replace_endpoints() as at_client,
        ends.server.probe.replace_endpoints(ends.at_server(SIGNAL)[1]) as at_server,
        connection(ends, room=(further, ROOM, ROOM)) as (data, packets),
    ):
        local = {ends.a[1]: ends.client.paths[1].device, str(mine.address()): mine.device}
        later = str(theirs.address())
        begins = {ends.first, ends.pair_by_route(ends.b[1])}
        mesh = {(address, remote) for address in local for remote in ends.b}
        after = {(address, later) for address in local}
        require_reachable(ends, mine, mesh | after)
        wait_for_pairs(data, begins, "the connection begins")
        for address, device in local.items():
            at_client.add(NewEndpoint(address, FULLMESH, device=device))
        if further < ROOM:
            found = eventually(
                data.pairs,
                until=lambda pairs: len(pairs) == further + 1,
                within=SUBFLOWS_TIMEOUT_S,
                what=f"{further} further subflows",
            )
            data.wait_for_bytes(QUIET_BYTES)
            assert data.pairs() == found <= begins | mesh, f"beyond the limit or the mesh: {data.pairs()}"
        else:
            wait_for_pairs(data, begins | mesh, "two full-mesh endpoints are added")
            at_server.add(NewEndpoint(later, SIGNAL, device=theirs.device))
            wait_for_pairs(data, begins | mesh | after, "the server announces another address")
    evidence.packets(rows(packets, ends.client.name))
