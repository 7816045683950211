"""Let a join be refused or lost, and check that it takes no other endpoint's place (DIRECT-20)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.probe import NewEndpoint, eventually
from mptcp_lab.suite.direct.endpoints import ROOM, SUBFLOW, SUBFLOWS_TIMEOUT_S, Ends, connection
from mptcp_lab.suite.direct.flags import UNREACHABLE, wait_for_pairs
from mptcp_lab.suite.direct.spare import spare_nic
from mptcp_lab.suite.expectations import origin_of
from mptcp_lab.suite.packets import joins, rows

#: Ways in which a join fails, by case: the fault at the server that causes it.
VERDICTS = {"refused": "reject", "lost": "drop"}
#: The counter of joins whose local address the host does not have (Linux 6.12).
BIND_ERRORS = "MPJoinSynTxBindErr"


@contextmanager
def third_endpoint(ends: Ends) -> Iterator[NewEndpoint]:
    """Bring the client's spare NIC up in the block; yield an endpoint for its address, to be added.

    Raises:
        Unsupported: the client has no spare NIC, or its packets do not reach the server's first address.
    """
    nic = spare_nic(ends.client)
    endpoint = NewEndpoint(str(nic.address()), SUBFLOW, device=nic.device)
    with ends.client.probe.fault("link_up", device=nic.device, address=endpoint.address):
        yield endpoint


def check_next_joins(ends: Ends, verdict: str, evidence: EvidenceBox) -> None:
    """Check that an endpoint joins although the join of the one before it was refused, or is lost."""
    closed, port = (ends.a[1], ends.b[0]), origin_of(ends.server).port
    with (
        third_endpoint(ends) as third,
        ends.server.probe.fault(VERDICTS[verdict], source=closed[0], dport=port),
        ends.client.probe.replace_endpoints(ends.at_client(SUBFLOW)[1], third),
        ends.server.probe.replace_endpoints(),
        connection(ends) as (data, packets),
    ):
        joined = third.address, ends.b[0]
        wait_for_pairs(data, {ends.first, joined}, f"the first join is {verdict}")
    evidence.packets(rows(packets, ends.client.name))
    asked = {(str(each.src), str(each.dst)) for each in joins(packets)}
    assert closed in asked, f"no join was sent for {closed}, only for {sorted(asked)}"


def check_address_missing(ends: Ends, evidence: EvidenceBox) -> None:
    """Check that an endpoint joins although the one before it has an address that the client does not have.

    The kernel counts that it could not use that address, where it has the counter (MPJoinSynTxBindErr).
    """
    missing, present = NewEndpoint(UNREACHABLE[7], SUBFLOW, 1), ends.at_client(SUBFLOW)[1]
    with (
        ends.client.probe.replace_endpoints(missing, present),
        ends.server.probe.replace_endpoints(),
        connection(ends) as (data, packets),
    ):
        wait_for_pairs(data, {ends.first, (present.address, ends.b[0])}, "one address is missing")
        growth = ends.client.probe.counters().delta(data.opening.before[0])
    evidence.packets(rows(packets, ends.client.name))
    if growth.has(BIND_ERRORS):
        failed = growth.mptcp(BIND_ERRORS)
        assert failed == 1, f"{ends.client.name} counts {failed} joins from addresses that it lacks"


def check_added_later(ends: Ends, evidence: EvidenceBox) -> None:
    """Check that an endpoint that is added after a refused join gets the only place for a subflow."""
    closed, port = (ends.a[1], ends.b[0]), origin_of(ends.server).port
    with (
        third_endpoint(ends) as third,
        ends.server.probe.fault("reject", source=closed[0], dport=port),
        ends.client.probe.replace_endpoints(ends.at_client(SUBFLOW)[1]) as endpoints,
        ends.server.probe.replace_endpoints(),
        connection(ends, room=(1, ROOM, 0)) as (data, packets),
    ):
        wait_for_pairs(data, {ends.first}, "the join is refused")
        eventually(
            lambda: ends.client.probe.counters().delta(data.opening.before[0]),
            until=lambda moved: moved["Tcp", "EstabResets"] + moved["Tcp", "AttemptFails"] > 0,
            within=SUBFLOWS_TIMEOUT_S,
            what=f"the end of the refused join at {ends.client.name}",
        )
        endpoints.add(third)
        joined = third.address, ends.b[0]
        wait_for_pairs(data, {ends.first, joined}, "another endpoint is added")
    evidence.packets(rows(packets, ends.client.name))
    asked = {(str(each.src), str(each.dst)) for each in joins(packets)}
    assert closed in asked, f"no join was sent for {closed}, only for {sorted(asked)}"
