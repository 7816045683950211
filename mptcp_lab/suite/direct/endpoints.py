"""Change the endpoints of both ends of a live connection, and check its subflows (DIRECT-16, DIRECT-20)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from mptcp_lab.errors import Unsupported
from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import NeverHappened, NewEndpoint, eventually
from mptcp_lab.suite.deviations import (
    FIRST_PAIR,
    NO_LAMINAR,
    OVERCOUNT,
    check_not_lacking,
    find_correction,
    keep,
    keep_self_joins,
)
from mptcp_lab.suite.direct.implicit import check_may_be_replaced, find_implicit
from mptcp_lab.suite.expectations import origin_of, reachable_pairs
from mptcp_lab.suite.packets import joins, rows, tcp_capture
from mptcp_lab.suite.sockets import AddressPair
from mptcp_lab.suite.traffic import Flow, flow
from mptcp_lab.wire import Segment

SUBFLOWS_TIMEOUT_S = 10.0
#: How many bytes a stream transfers while its subflows must stay as they are.
QUIET_BYTES = 20_000
#: As many subflows and announced addresses as the kernel allows.
ROOM = 8
FIRST_ID, SECOND_ID, OTHER_ID = 1, 2, 9
SUBFLOW, FULLMESH, SIGNAL, LAMINAR = ("subflow",), ("subflow", "fullmesh"), ("signal",), ("laminar",)


@dataclass(frozen=True)
class Ends:
    """The first two IPv4 path addresses of client and server."""

    client: Machine
    server: Machine

    @property
    def a(self) -> tuple[str, str]:
        """Return the client's addresses."""
        return self.client.address(0), self.client.address(1)

    @property
    def b(self) -> tuple[str, str]:
        """Return the server's addresses."""
        return self.server.address(0), self.server.address(1)

    @property
    def first(self) -> AddressPair:
        """Return the pair of the first subflow."""
        return self.a[0], self.b[0]

    def pair_by_route(self, remote: str) -> AddressPair:
        """Return the pair with the source address that the client's routes give for a remote address."""
        printed = self.client.probe.run(["ip", "-o", "route", "get", remote]).stdout.split()
        return printed[printed.index("src") + 1], remote

    def reachable_pairs(self) -> set[AddressPair]:
        """Return the pairs of these addresses between which subflows can come up."""
        return {each for each in reachable_pairs(self.client, self.server) if set(each) <= {*self.a, *self.b}}

    def require_reachable(self, *pairs: AddressPair) -> None:
        """Raise `Unsupported` if the lab's network does not connect one of these pairs."""
        if missing := set(pairs) - self.reachable_pairs():
            raise Unsupported("subflows between two paths", f"{sorted(missing)} do not reach each other")

    def at_client(self, flags: Collection[str]) -> list[NewEndpoint]:
        """Return an endpoint with these flags on each of the client's NICs, none without flags."""
        return _endpoints(self.client, flags)

    def at_server(self, flags: Collection[str]) -> list[NewEndpoint]:
        """Return an endpoint with these flags on each of the server's NICs, none without flags."""
        return _endpoints(self.server, flags)


def _endpoints(machine: Machine, flags: Collection[str]) -> list[NewEndpoint]:
    nics = machine.paths[:2] if flags else ()
    identities = (FIRST_ID, SECOND_ID)
    return [
        NewEndpoint(str(nic.address()), flags, identity, nic.device)
        for nic, identity in zip(nics, identities, strict=False)
    ]


@dataclass(frozen=True)
class Counts:
    """The subflows of a connection, and what its ends count of them (MPTCP_INFO).

    Each end counts the subflows besides the first, and the client the announced addresses that it has joined.
    """

    pairs: frozenset[AddressPair]
    at_client: int
    at_server: int
    announced: int


class Connection:
    """A stream from client to server whose subflows a check compares with the endpoints of both ends."""

    def __init__(self, data: Flow, ends: Ends) -> None:
        self.data = data
        self.overcount = 0  # how many announced addresses the client may count too many
        self._overcounted = 0
        self._client, self._first_address = ends.client, ends.b[0]
        self._origin = ends.server.probe.origin(origin_of(ends.server).name)
        self._number = data.record().number
        self.states: list[dict[str, object]] = []

    def counts(self) -> Counts:
        """Return the connection's subflows now."""
        mine, theirs = self.data.stream.facts().info, self._origin.facts(self._number).info
        assert mine is not None and theirs is not None, "the connection fell back to TCP"
        pairs = frozenset(self.data.pairs())
        return Counts(pairs, mine["subflows"], theirs["subflows"], mine["add_addr_accepted"])

    def wait_for(self, pairs: Collection[AddressPair], further: int, what: str) -> None:
        """Wait until the connection has just these subflows and each end counts so many further ones.

        They must then stay as they are while data flows. Each state is kept in `states`.
        """
        joined = len({remote for _, remote in pairs} - {self._first_address})
        wanted = [
            Counts(frozenset(pairs), further, further, joined + more) for more in range(self.overcount + 1)
        ]
        found = eventually(
            self.counts, until=lambda counts: counts in wanted, within=SUBFLOWS_TIMEOUT_S, what=what
        )
        self.data.wait_for_bytes(QUIET_BYTES)
        after = self.counts()
        assert after == found, f"{what}: {found} was reached, and became {after} unasked"
        self.states.append({"step": what, **vars(found), "pairs": sorted(pairs)})
        self._overcounted = found.announced - joined

    def keep(self, evidence: EvidenceBox) -> None:
        """Keep as evidence the subflows after each step, and how many addresses were counted too many."""
        evidence.document("subflows after each step", self.states)
        deviation = find_correction(OVERCOUNT, self._client.probe.kernel)
        if deviation and self._overcounted:
            keep(deviation, evidence)
            evidence.figure("announced addresses counted too many, a known deviation", self._overcounted)

    def keeps(self, pairs: Collection[AddressPair]) -> bool:
        """Return whether the connection still has just these subflows after it has carried some data."""
        self.data.wait_for_bytes(QUIET_BYTES)
        return self.data.pairs() == set(pairs)


@contextmanager
def connection(
    ends: Ends, *, to: str = "", source: str | None = None, room: tuple[int, int, int] = (ROOM, ROOM, ROOM)
) -> Iterator[tuple[Flow, list[Segment]]]:
    """Connect client and server under given limits; yield the stream, and its packets when the block ends.

    `room` is how many subflows the client allows, how many the server, and how many announced addresses the
    client accepts. The client connects to the server's first address unless `to` is another one.
    """
    client, server, origin = ends.client, ends.server, origin_of(ends.server)
    at_client, at_server, announced = room
    packets: list[Segment] = []
    with (
        client.probe.fault("limits", subflows=at_client, add_addr_accepted=announced),
        server.probe.fault("limits", subflows=at_server),
        tcp_capture(client, origin.port) as capture,
        flow(client, to or ends.b[0], origin.port, server, origin, source=source) as data,
    ):
        transfer = data.start()
        yield data, packets
        ended = data.end(transfer)
        packets += capture.stop()
    assert ended.intact, ended.difference


@dataclass(frozen=True)
class AddedAgain:
    """An endpoint that is deleted and added again: its owner, its path, and the flags at either end."""

    owner: str
    path: int
    at_client: tuple[str, ...]
    at_server: tuple[str, ...] = ()

    @property
    def may_deviate(self) -> bool:
        """Return whether some kernels are known not to bring its subflow back (`FIRST_PAIR`)."""
        return self.path == 0 and FULLMESH in (self.at_client, self.at_server)


#: The endpoints of DIRECT-16 by case. Path 0 is the first subflow's own.
ADDED_AGAIN = {
    "subflow": AddedAgain("client", 1, SUBFLOW),
    "subflow-of-first": AddedAgain("client", 0, SUBFLOW),
    "fullmesh": AddedAgain("client", 1, FULLMESH),
    "fullmesh-of-first": AddedAgain("client", 0, FULLMESH),
    "signal": AddedAgain("server", 1, (), SIGNAL),
    "signal-of-first": AddedAgain("server", 0, (), SIGNAL),
}


def check_comes_back(ends: Ends, added: AddedAgain, evidence: EvidenceBox) -> None:
    """Check that a deleted endpoint's subflow ends, and that it comes back each time the endpoint is added.

    The endpoint is added with its old id, with another one, and with its old id again. Both ends allow only
    as many subflows as are expected, so that an end which still counts a closed one rejects the last join.
    """
    second = (ends.a[1], ends.b[0]) if added.owner == "client" else ends.pair_by_route(ends.b[1])
    ends.require_reachable(second)
    pairs, lost = {ends.first, second}, (ends.first, second)[added.path]
    further = 1 + (added.path == 0)  # the first subflow counts as a further one when it has come back
    deviation = find_correction(FIRST_PAIR, ends.client.probe.kernel) if added.may_deviate else None
    overcounts = added.owner == "server" and find_correction(OVERCOUNT, ends.client.probe.kernel) is not None
    room = ROOM if overcounts else further
    mine, theirs = ends.at_client(added.at_client), ends.at_server(added.at_server)
    returned = []
    with (
        ends.client.probe.replace_endpoints(*mine) as at_client,
        ends.server.probe.replace_endpoints(*theirs) as at_server,
        connection(ends, room=(room, room, ROOM)) as (data, packets),
    ):
        live = Connection(data, ends)
        live.wait_for(pairs, 1, "the connection begins")
        control, listed = (at_client, mine) if added.owner == "client" else (at_server, theirs)
        endpoint = listed[added.path]
        for done, identity in enumerate((endpoint.id, OTHER_ID, endpoint.id), 1):
            live.overcount = done * overcounts
            control.delete(endpoint)
            live.wait_for(pairs - {lost}, further - 1, f"id {endpoint.id} deleted")
            endpoint = replace(endpoint, id=identity)
            control.add(endpoint)
            returned.append(not (deviation and live.keeps(pairs - {lost})))
            if returned[-1]:
                live.wait_for(pairs, further, f"id {identity} added")
        live.keep(evidence)
    evidence.packets(rows(packets, ends.client.name))
    if deviation and not all(returned):
        keep(deviation, evidence)
    _check_asked(packets, Counter([second, *[lost] * sum(returned)]))


def _check_asked(packets: list[Segment], expected: Counter[AddressPair]) -> None:
    """Check how many joins were sent for each pair; a SYN that was sent again counts once."""
    distinct = {(s.src, s.sport, s.dst, s.dport): s for s in joins(packets)}.values()
    asked = Counter((str(s.src), str(s.dst)) for s in distinct)
    assert asked == expected, f"joins were sent for {dict(asked)}, expected {dict(expected)}"


def check_flush(ends: Ends, evidence: EvidenceBox) -> None:
    """Check that the first subflow survives a flush at both ends, and that endpoints added later join."""
    by_client, by_server = (ends.a[1], ends.b[0]), ends.pair_by_route(ends.b[1])
    ends.require_reachable(by_client, by_server)
    mine, theirs = ends.at_client(SUBFLOW)[1:], ends.at_server(SIGNAL)[1:]
    overcounts = find_correction(OVERCOUNT, ends.client.probe.kernel) is not None
    room = ROOM if overcounts else 2
    with (
        ends.client.probe.replace_endpoints(*mine) as at_client,
        ends.server.probe.replace_endpoints(*theirs) as at_server,
        connection(ends, room=(room, room, ROOM)) as (data, packets),
    ):
        live = Connection(data, ends)
        live.wait_for({ends.first, by_client, by_server}, 2, "the connection begins")
        for done, identity in enumerate((SECOND_ID, OTHER_ID, SECOND_ID), 1):
            live.overcount = done * overcounts
            at_client.flush()
            at_server.flush()
            live.wait_for({ends.first}, 0, "both ends flushed")
            at_client.add(replace(mine[0], id=identity))
            live.wait_for({ends.first, by_client}, 1, f"id {identity} added at the client")
            at_server.add(replace(theirs[0], id=identity))
            live.wait_for({ends.first, by_client, by_server}, 2, f"id {identity} added at the server")
        live.keep(evidence)
    evidence.packets(rows(packets, ends.client.name))
    _check_asked(packets, Counter([by_client, by_server] * 4))


@dataclass(frozen=True)
class Kind:
    """Endpoints of a kind at the client, what the server announces, and the joins to expect of them.

    `joins` returns the pairs that may join. If the connection has no room for all (`fewer`), only so many do.
    The first subflow goes to the server's path `first`.
    """

    flags: tuple[str, ...]
    joins: Callable[[Ends], set[AddressPair]]
    room: tuple[int, int, int] = (ROOM, ROOM, ROOM)
    fewer: int | None = None
    first: int = 0


def _from_other_nic(ends: Ends) -> set[AddressPair]:
    return {(ends.a[1], ends.b[0])}


def _once_from_other_nic(ends: Ends) -> set[AddressPair]:
    return {(ends.a[1], remote) for remote in ends.b}


def _to_announced(ends: Ends) -> set[AddressPair]:
    return {ends.pair_by_route(ends.b[1])}


def _all_pairs(ends: Ends) -> set[AddressPair]:
    return ends.reachable_pairs() - {ends.first}


#: The kinds of DIRECT-20 by case. Announcements (ADD_ADDR) are accepted except where `room` has 0 for them.
KINDS = {
    "subflow": Kind(SUBFLOW, _from_other_nic, room=(ROOM, ROOM, 0)),
    "subflow-and-announced": Kind(SUBFLOW, lambda ends: _from_other_nic(ends) | _to_announced(ends)),
    "implicit": Kind((), _to_announced),
    "fullmesh": Kind(FULLMESH, _all_pairs),
    "laminar": Kind(LAMINAR, _from_other_nic, first=1),
    "subflow-and-laminar": Kind((*SUBFLOW, *LAMINAR), _once_from_other_nic, fewer=1),
    "no-announcement-accepted": Kind(FULLMESH, _from_other_nic, room=(ROOM, ROOM, 0)),
    "no-room-at-client": Kind(FULLMESH, _all_pairs, room=(0, ROOM, ROOM), fewer=0),
    "limit-of-client": Kind(FULLMESH, _all_pairs, room=(1, ROOM, ROOM), fewer=1),
    "limit-of-server": Kind(FULLMESH, _all_pairs, room=(ROOM, 1, ROOM), fewer=1),
}


def check_kind(ends: Ends, kind: Kind, evidence: EvidenceBox) -> None:
    """Check that endpoints of a kind make just the joins that their documentation describes.

    The server announces both of its addresses.
    """
    first, allowed = (ends.a[0], ends.b[kind.first]), kind.joins(ends)
    ends.require_reachable(first, *allowed)
    wanted = len(allowed) if kind.fewer is None else kind.fewer
    with (
        ends.client.probe.replace_endpoints(*ends.at_client(kind.flags)) as at_client,
        ends.server.probe.replace_endpoints(*ends.at_server(SIGNAL)),
        connection(ends, to=first[1], source=first[0], room=kind.room) as (data, packets),
    ):
        pairs = _wait_for_kind(ends, kind, data, wanted)
        data.wait_for_bytes(QUIET_BYTES)
        after = data.pairs()
        made = set(find_implicit(ends.client))
        check_may_be_replaced(ends.client, at_client)
    asked = {(str(s.src), str(s.dst)) for s in joins(packets)}
    evidence.subflows([{"local": local, "remote": remote} for local, remote in sorted(pairs)])
    evidence.packets(rows(packets, ends.client.name))
    more = keep_self_joins(ends.client, asked, evidence)
    assert asked - more <= allowed, (
        f"joins that the endpoints do not ask for: {sorted(asked - more - allowed)}"
    )
    assert after == pairs, f"subflows came or went unasked: {sorted(after ^ pairs)}"
    if not kind.flags:
        implicit = {local for local, _ in allowed} - {first[0]}
        assert made == implicit, f"implicit endpoints {sorted(made)}, expected {sorted(implicit)}"


def _wait_for_kind(ends: Ends, kind: Kind, data: Flow, wanted: int) -> set[AddressPair]:
    """Wait for so many of the kind's joins; raise `Unsupported` where the client's kernel lacks the kind."""
    first, allowed = (ends.a[0], ends.b[kind.first]), kind.joins(ends)
    try:
        return eventually(
            data.pairs,
            until=lambda pairs: len(pairs) == wanted + 1 and first in pairs and pairs <= {first, *allowed},
            within=SUBFLOWS_TIMEOUT_S,
            what=f"{wanted} joined subflows of {sorted(allowed)}",
        )
    except NeverHappened:
        if set(LAMINAR) <= set(kind.flags):
            check_not_lacking(NO_LAMINAR, ends.client.probe.kernel, ends.client.name, "laminar endpoints")
        raise
