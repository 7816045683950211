"""Use an endpoint's flags together, and change the fullmesh flag on a live connection (DIRECT-20)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TypeVar

from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.probe import NeverHappened, NewEndpoint, eventually
from mptcp_lab.suite.deviations import ONE_FLAG, check_not_lacking
from mptcp_lab.suite.direct.endpoints import (
    FULLMESH,
    QUIET_BYTES,
    ROOM,
    SIGNAL,
    SUBFLOW,
    SUBFLOWS_TIMEOUT_S,
    Ends,
    connection,
)
from mptcp_lab.suite.packets import format_segments, joins, mptcp_options, opened_here, rows
from mptcp_lab.suite.sockets import AddressPair
from mptcp_lab.suite.traffic import Flow
from mptcp_lab.wire import AddAddr, MpPrio, RemoveAddr, Segment
from mptcp_lab.wire.packet import RST

BOTH_FLAGS = ("subflow", "signal")
#: Addresses by their ids that nobody has (RFC 5737).
UNREACHABLE = {7: "192.0.2.7", 8: "192.0.2.8"}
T = TypeVar("T")


def wait_for_pairs(data: Flow, pairs: Collection[AddressPair], what: str) -> None:
    """Wait until a connection has just these subflows; check that it keeps them while data flows."""
    wanted = set(pairs)
    eventually(
        data.pairs,
        until=lambda found: found == wanted,
        within=SUBFLOWS_TIMEOUT_S,
        what=f"{what}: {sorted(wanted)}",
    )
    data.wait_for_bytes(QUIET_BYTES)
    after = data.pairs()
    assert after == wanted, f"{what}: {sorted(wanted)} became {sorted(after)} unasked"


def find_announcements(packets: Collection[Segment], source: Collection[str]) -> list[AddAddr]:
    """Return the announcements from these addresses, without their echoes and repetitions."""
    found = _find_options(packets, source, AddAddr)
    return list(dict.fromkeys(each for each in found if not each.echo))


def find_echoed_addresses(packets: Collection[Segment], source: Collection[str]) -> set[str]:
    """Return the addresses in the echoes of announcements from these addresses."""
    return {str(each.address) for each in _find_options(packets, source, AddAddr) if each.echo}


def find_withdrawn_ids(packets: Collection[Segment], source: Collection[str]) -> set[int]:
    """Return the address ids that were withdrawn from these addresses."""
    return {identity for each in _find_options(packets, source, RemoveAddr) for identity in each.address_ids}


def _find_options(packets: Collection[Segment], source: Collection[str], kind: type[T]) -> list[T]:
    return [
        option
        for segment in packets
        if str(segment.src) in source
        for option in mptcp_options(segment)
        if isinstance(option, kind)
    ]


def check_both_flags(ends: Ends, evidence: EvidenceBox) -> None:
    """Check that the client joins from an endpoint with both flags and announces it, once each.

    The server answers the announcement and opens nothing. When the endpoint is deleted, the client withdraws
    its address, and its subflow ends.

    Raises:
        Unsupported: the client's kernel is known to announce such an endpoint only.
    """
    second = ends.a[1], ends.b[0]
    ends.require_reachable(second)
    endpoint = ends.at_client(BOTH_FLAGS)[1]
    with (
        ends.client.probe.replace_endpoints(endpoint) as at_client,
        ends.server.probe.replace_endpoints(),
        connection(ends, room=(ROOM, ROOM, 0)) as (data, packets),
    ):
        try:
            wait_for_pairs(data, {ends.first, second}, "the connection begins")
        except NeverHappened:
            what = "joins from an endpoint that is also announced"
            check_not_lacking(ONE_FLAG, ends.client.probe.kernel, ends.client.name, what)
            raise
        at_client.delete(endpoint)
        wait_for_pairs(data, {ends.first}, "the endpoint is deleted")
    evidence.packets(rows(packets, ends.client.name))
    announced = {str(each.address) for each in find_announcements(packets, ends.a)}
    assert announced == {second[0]}, f"the client announced {sorted(announced)}, not just {second[0]}"
    assert second[0] in find_echoed_addresses(packets, ends.b), f"{ends.server.name} did not echo {second[0]}"
    assert find_withdrawn_ids(packets, ends.a) == {endpoint.id}, "the client did not withdraw its address"
    asked = {(str(each.src), str(each.dst)) for each in joins(packets)}
    assert asked == {second}, f"joins were sent for {sorted(asked)}"
    resets = [each for each in opened_here(packets) if each.flags & RST and str(each.src) in ends.b]
    assert not resets, f"{ends.server.name} reset a subflow: {format_segments(resets)}"


def check_both_flags_without_room(ends: Ends, evidence: EvidenceBox) -> None:
    """Check that a server without room for subflows announces an endpoint with both flags, and withdraws it.

    Neither end opens a subflow, and the connection goes on.
    """
    endpoint = ends.at_server(BOTH_FLAGS)[1]
    with (
        ends.client.probe.replace_endpoints(),
        ends.server.probe.replace_endpoints(endpoint) as at_server,
        connection(ends, room=(0, 0, 0)) as (data, packets),
    ):
        wait_for_pairs(data, {ends.first}, "the connection begins")
        at_server.delete(endpoint)
        wait_for_pairs(data, {ends.first}, "the endpoint is deleted")
        client = ends.client.probe
        eventually(
            lambda: client.counters().delta(data.opening.before[0]).mptcp("RmAddr"),
            until=bool,
            within=SUBFLOWS_TIMEOUT_S,
            what=f"a withdrawal at {client.host} (RmAddr)",
        )
    evidence.packets(rows(packets, ends.client.name))
    announced = {str(each.address) for each in find_announcements(packets, ends.b)}
    assert announced == {ends.b[1]}, f"the server announced {sorted(announced)}, not just {ends.b[1]}"
    assert find_withdrawn_ids(packets, ends.b) == {endpoint.id}, "the server did not withdraw its address"
    assert not joins(packets), f"a subflow was asked for: {format_segments(joins(packets))}"


def check_announced_by_both(ends: Ends, evidence: EvidenceBox) -> None:
    """Check that both ends announce their second addresses at once, and that each announcement is answered.

    The client joins the server's address. The server may try to join the client's, where nothing listens.
    """
    second = ends.pair_by_route(ends.b[1])
    ends.require_reachable(second)
    with (
        ends.client.probe.replace_endpoints(*ends.at_client(SIGNAL)),
        ends.server.probe.replace_endpoints(*ends.at_server(SIGNAL)),
        connection(ends) as (data, packets),
    ):
        wait_for_pairs(data, {ends.first, second}, "the connection begins")
    evidence.packets(rows(packets, ends.client.name))
    for mine, theirs in ((ends.a, ends.b), (ends.b, ends.a)):
        announced = {str(each.address) for each in find_announcements(packets, mine)}
        assert announced == {mine[1]}, f"{mine[0]} announced {sorted(announced)}, not just {mine[1]}"
        assert mine[1] in find_echoed_addresses(packets, theirs), (
            f"the announcement of {mine[1]} got no answer"
        )


def check_fullmesh_set(ends: Ends, evidence: EvidenceBox) -> None:
    """Check that an endpoint joins all addresses when it becomes fullmesh, and one when it no longer is.

    The same holds where it becomes a backup by the same command, which the client then announces by MP_PRIO.
    The connection goes to the server's second address, so that the client's routes give the first one, which
    is announced, another source than the endpoint.
    """
    first, local = (ends.a[0], ends.b[1]), ends.a[1]
    begins = {first, ends.pair_by_route(ends.b[0]), (local, ends.b[1])}
    more = (local, ends.b[0])
    ends.require_reachable(*begins, more)
    endpoint = ends.at_client(SUBFLOW)[1]
    with (
        ends.client.probe.replace_endpoints(endpoint) as at_client,
        ends.server.probe.replace_endpoints(*ends.at_server(SIGNAL)),
        connection(ends, to=first[1], source=first[0]) as (data, packets),
    ):
        wait_for_pairs(data, begins, "the connection begins")
        for flags, pairs, what in (
            (FULLMESH, begins | {more}, "fullmesh is set"),
            (SUBFLOW, begins, "fullmesh is cleared"),
            ((*FULLMESH, "backup"), begins | {more}, "fullmesh and backup are set"),
            (SUBFLOW, begins, "fullmesh and backup are cleared"),
        ):
            at_client.change(replace(endpoint, flags=flags))
            wait_for_pairs(data, pairs, what)
        found = next(each for each in ends.client.probe.endpoints() if each.address == local)
        assert "fullmesh" not in found.flags, f"the endpoint has the flags {sorted(found.flags)}"
    evidence.packets(rows(packets, ends.client.name))
    priorities = [each.backup for each in _find_options(packets, {local}, MpPrio)]
    assert set(priorities) == {True, False}, f"MP_PRIO from {local}: {priorities}"


def check_some_unreachable(ends: Ends, evidence: EvidenceBox) -> None:
    """Check that the client joins the reachable one of announced addresses, and that all can be withdrawn.

    The others have never been joined when the server deletes one of them, and flushes the rest.
    """
    second = ends.pair_by_route(ends.b[1])
    ends.require_reachable(second)
    announced = [NewEndpoint(address, SIGNAL, number) for number, address in UNREACHABLE.items()]
    announced.append(ends.at_server(SIGNAL)[1])
    with (
        ends.client.probe.replace_endpoints(),
        ends.server.probe.replace_endpoints(*announced) as at_server,
        connection(ends) as (data, packets),
    ):
        wait_for_pairs(data, {ends.first, second}, "the connection begins")
        _wait_for_echoes(ends, data, len(announced))
        at_server.delete(announced[0])
        wait_for_pairs(data, {ends.first, second}, "an address that was never joined is deleted")
        at_server.flush()
        wait_for_pairs(data, {ends.first}, "the others are flushed")
    evidence.packets(rows(packets, ends.client.name))
    found = {str(each.address) for each in find_announcements(packets, ends.b)}
    assert found == {each.address for each in announced}, f"the server announced {sorted(found)}"
    withdrawn = find_withdrawn_ids(packets, ends.b)
    assert withdrawn == {each.id for each in announced}, f"the server withdrew {sorted(withdrawn)}"


def _wait_for_echoes(ends: Ends, data: Flow, count: int) -> None:
    server = ends.server.probe
    eventually(
        lambda: server.counters().delta(data.opening.before[1]).mptcp("EchoAdd"),
        until=lambda echoes: echoes >= count,
        within=SUBFLOWS_TIMEOUT_S,
        what=f"{count} echoes at {server.host} (EchoAdd)",
    )
