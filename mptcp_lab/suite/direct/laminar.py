"""Pair announced addresses with `laminar` endpoints, one each (DIRECT-20)."""

from __future__ import annotations

from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.probe import NeverHappened, NewEndpoint, eventually
from mptcp_lab.suite.deviations import NO_LAMINAR, check_not_lacking
from mptcp_lab.suite.direct.endpoints import (
    LAMINAR,
    QUIET_BYTES,
    SIGNAL,
    SUBFLOWS_TIMEOUT_S,
    Ends,
    connection,
)
from mptcp_lab.suite.direct.later_mesh import require_reachable
from mptcp_lab.suite.direct.several import third_path
from mptcp_lab.suite.packets import joins, rows


def check_laminar(ends: Ends, number: int, evidence: EvidenceBox) -> None:
    """Check that each of so many `laminar` endpoints joins one of two announced addresses, and no more.

    Raises:
        Unsupported: the client's kernel has no such endpoints.
    """
    with third_path(ends.client, ends.server) as (mine, theirs):
        local = {ends.a[1]: ends.client.paths[1].device, str(mine.address()): mine.device}
        chosen = list(local)[:number]
        announced = [
            *ends.at_server(SIGNAL)[1:],
            NewEndpoint(str(theirs.address()), SIGNAL, 3, theirs.device),
        ]
        remotes = [each.address for each in announced]
        require_reachable(ends, mine, {(address, remote) for address in chosen for remote in remotes})
        with (
            ends.client.probe.replace_endpoints(
                *(NewEndpoint(address, LAMINAR, device=local[address]) for address in chosen)
            ),
            ends.server.probe.replace_endpoints(*announced),
            connection(ends) as (data, packets),
        ):
            try:
                found = eventually(
                    data.pairs,
                    until=lambda pairs: len(pairs) == number + 1,
                    within=SUBFLOWS_TIMEOUT_S,
                    what=f"a subflow of each of {number} laminar endpoints",
                )
            except NeverHappened:
                kernel, name = ends.client.probe.kernel, ends.client.name
                check_not_lacking(NO_LAMINAR, kernel, name, "laminar endpoints")
                raise
            data.wait_for_bytes(QUIET_BYTES)
            after = data.pairs()
    evidence.packets(rows(packets, ends.client.name))
    joined = sorted(found - {ends.first})
    assert after == found, f"subflows came or went unasked: {sorted(after ^ found)}"
    assert sorted(pair[0] for pair in joined) == sorted(chosen), f"not one subflow of each endpoint: {joined}"
    assert len({pair[1] for pair in joined}) == number, f"two subflows to one address: {joined}"
    asked = {(str(each.src), str(each.dst)) for each in joins(packets)}
    assert asked <= set(joined), f"joins were sent for {sorted(asked)}"
