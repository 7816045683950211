"""Make subflows backups at either end, and check which of them carry data (DIRECT-11, DIRECT-19)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import EndpointControl, NewEndpoint, eventually
from mptcp_lab.suite.direct.endpoints import SIGNAL, SUBFLOW, SUBFLOWS_TIMEOUT_S, Ends
from mptcp_lab.suite.directions import BOTH, DOWNLOAD, UPLOAD, Movement
from mptcp_lab.suite.expectations import direct_flow, expected_pairs, origin_of, wait_for_joins
from mptcp_lab.suite.packets import format_segments, joins, mptcp_options, rows, tcp_capture
from mptcp_lab.suite.sockets import AddressPair
from mptcp_lab.suite.traffic import Flow
from mptcp_lab.wire import MpJoinSyn, MpJoinSynAck, MpPrio, Segment

#: How many bytes each end receives in a phase, and how long a change of the backups may take to show.
PHASE_BYTES, BACKUP_PHASE_BYTES = 50_000, 300_000
TURNS_WITHIN_S = 10.0
#: How long a stream may take to return from the backup to a path that is restored.
RETURNS_WITHIN_S = 20.0
CLIENT, SERVER = "client", "server"
BACKUP = "backup"
#: The counter of MP_PRIO options that an end has received.
RECEIVED = "MPPrioRx"


class TwoWays:
    """A connection that carries data both ways, and the endpoints of its ends.

    ``packets`` are those at the client, when the connection has ended.
    """

    def __init__(
        self, data: Flow, controls: dict[str, EndpointControl], ends: Ends, before: dict[str, int]
    ) -> None:
        self.controls, self._before = controls, before
        self._machines = {CLIENT: ends.client, SERVER: ends.server}
        self.packets: list[Segment] = []
        self.phases: list[dict[str, object]] = []
        self.moving = Movement(data, BOTH)

    def measure_phase(self, end: str) -> dict[AddressPair, int]:
        """Let `PHASE_BYTES` of an end arrive; return the bytes that each subflow has sent in this time."""
        way = UPLOAD if end == CLIENT else DOWNLOAD
        before, arrived = self.moving.sent_by_subflow(way), self.moving.count_received()[way]
        eventually(
            lambda: self.moving.count_received()[way],
            until=lambda nbytes: nbytes >= arrived + PHASE_BYTES,
            within=TURNS_WITHIN_S,
            what=f"{PHASE_BYTES} more octets at the {SERVER if end == CLIENT else CLIENT}",
        )
        return {
            pair: nbytes - before.get(pair, 0) for pair, nbytes in self.moving.sent_by_subflow(way).items()
        }

    def wait_until_unused(self, end: str, backups: set[AddressPair], when: str) -> None:
        """Wait until an end sends nothing over these subflows; check that this lasts for another phase."""
        carried = eventually(
            lambda: self.measure_phase(end),
            until=lambda carried: not any(carried.get(pair) for pair in backups),
            within=TURNS_WITHIN_S,
            what=f"the {end} sends nothing over the backups {sorted(backups)} {when}",
        )
        self._note(end, when, carried)
        after = self.measure_phase(end)
        again = {pair for pair in backups if after.get(pair)}
        assert not again, f"the {end} sends over the backups {sorted(again)} again {when}: {after}"

    def wait_for_priorities(self, end: str, count: int) -> None:
        """Wait until an end has received so many MP_PRIO in all."""
        eventually(
            lambda: self._machines[end].probe.counters().mptcp(RECEIVED) - self._before[end],
            until=lambda received: received >= count,
            within=TURNS_WITHIN_S,
            what=f"MP_PRIO number {count} at the {end} ({RECEIVED})",
        )

    def check_used(self, end: str, pair: AddressPair, when: str) -> None:
        """Check that an end sends over a subflow."""
        carried = self.measure_phase(end)
        self._note(end, when, carried)
        assert carried.get(pair), f"the {end} sent nothing over {pair} {when}, only {carried}"

    def _note(self, end: str, when: str, carried: dict[AddressPair, int]) -> None:
        self.phases += [
            {"sender": end, "when": when, "client": pair[0], "server": pair[1], "bytes": nbytes}
            for pair, nbytes in sorted(carried.items())
        ]


@contextmanager
def two_ways(
    ends: Ends, mine: list[NewEndpoint], theirs: list[NewEndpoint], pairs: set[AddressPair]
) -> Iterator[TwoWays]:
    """Connect the ends under these endpoints, send both ways, and wait for the subflows `pairs`."""
    ends.require_reachable(*pairs)
    before = {
        end: machine.probe.counters().mptcp(RECEIVED)
        for end, machine in ((CLIENT, ends.client), (SERVER, ends.server))
    }
    with (
        ends.client.probe.replace_endpoints(*mine) as at_client,
        ends.server.probe.replace_endpoints(*theirs) as at_server,
        tcp_capture(ends.client, origin_of(ends.server).port) as capture,
        direct_flow(ends.client, ends.server) as data,
    ):
        live = TwoWays(data, {CLIENT: at_client, SERVER: at_server}, ends, before)
        eventually(
            data.pairs,
            until=lambda found: found == pairs,
            within=SUBFLOWS_TIMEOUT_S,
            what=f"the subflows {sorted(pairs)}",
        )
        yield live
        live.moving.end().check_intact()
        live.packets = capture.stop()


def check_backup(client: Machine, server: Machine, direction: str, evidence: EvidenceBox) -> None:
    """Check that each sender uses the path that A declares as backup only while all regular paths fail."""
    backup, port = client.address(1), origin_of(server).port
    flags = ["subflow", "fullmesh", BACKUP]
    with (
        client.probe.fault("endpoint_change", address=backup, flags=flags),
        tcp_capture(client, port, [client.paths[1].device]) as capture,
        direct_flow(client, server) as data,
    ):
        movement = Movement(data, direction)
        wait_for_joins(data, expected_pairs(client, server))
        unused = _count_phase(movement, backup)
        for way, nbytes in unused.items():
            assert nbytes == 0, f"{way}: the backup carried {nbytes} bytes beside a working path"
        with ExitStack() as failing:
            for path in (n for n in range(len(client.paths)) if n != 1):
                failing.enter_context(server.probe.fault("drop", source=client.address(path)))
            used = _count_phase(movement, backup)
        eventually(
            lambda: _count_phase(movement, backup),
            until=lambda found: not any(found.values()),
            within=RETURNS_WITHIN_S,
            what="the backup path is left again",
        )
        moved = movement.end()
        packets = capture.stop()
    evidence.packets(rows(packets, client.name, client.paths[1].device))
    moved.keep_gaps(evidence)
    regular = [s for s in joins(packets) if not all(o.backup for o in s.options if isinstance(o, MpJoinSyn))]
    assert not regular, f"joins without the B bit: {format_segments(regular)}"
    for way in movement.ways:
        of_way = "" if len(movement.ways) == 1 else f", {way}"
        evidence.figure(f"on the backup path beside a working one{of_way}", unused[way], "bytes")
        evidence.figure(f"while that failed{of_way}", used[way], "bytes")
        assert used[way] > 0, f"{way}: the backup path carried nothing although the other failed"
    moved.check_intact()


def _count_phase(movement: Movement, address: str) -> dict[str, int]:
    """Let a phase of a stream arrive; return by direction the bytes sent in it over an address of A."""
    before = {way: movement.sent_by_subflow(way) for way in movement.ways}
    movement.wait_for(BACKUP_PHASE_BYTES, RETURNS_WITHIN_S, f"{BACKUP_PHASE_BYTES} more octets")
    after = {way: movement.sent_by_subflow(way) for way in movement.ways}
    return {
        way: sum(sent - before[way].get(pair, 0) for pair, sent in pairs.items() if pair[0] == address)
        for way, pairs in after.items()
    }


def _as_backup(endpoint: NewEndpoint) -> NewEndpoint:
    return replace(endpoint, flags=(*endpoint.flags, BACKUP))


def check_declared(ends: Ends, evidence: EvidenceBox) -> None:
    """Check that the client leaves a subflow unused whose address the server declares as backup.

    When the other path fails, the client uses it.
    """
    first, backup = ends.first, ends.pair_by_route(ends.b[1])
    theirs = ends.at_server(SIGNAL)
    with two_ways(ends, [], [theirs[0], _as_backup(theirs[1])], {first, backup}) as live:
        live.wait_until_unused(CLIENT, {backup}, "beside a working path")
        with ends.server.probe.fault("drop", source=first[0], destination=first[1]):
            live.check_used(CLIENT, backup, "while the other path fails")
    _keep(live, ends, evidence)
    # B may repeat the SYN/ACK of a join whose connection, from before the capture, has ended.
    asked = {(s.src, s.sport) for s in joins(live.packets)}
    answers = [
        (str(s.src), option.backup)
        for s in live.packets
        for option in mptcp_options(s)
        if isinstance(option, MpJoinSynAck) and (s.dst, s.dport) in asked
    ]
    assert answers == [(backup[1], True)], f"SYN/ACKs of joins and their backup bits: {answers}"


def check_set_at_run_time(ends: Ends, setter: str, evidence: EvidenceBox) -> None:
    """Check that an end obeys the backups that the other end, `setter`, sets while data flows.

    First the path of the first subflow becomes the backup, then the other path becomes it instead.
    """
    obeys = SERVER if setter == CLIENT else CLIENT
    if setter == CLIENT:
        mine, theirs, second = ends.at_client(SUBFLOW), [], (ends.a[1], ends.b[0])
    else:
        mine, theirs, second = [], ends.at_server(SIGNAL), ends.pair_by_route(ends.b[1])
    one, other = mine or theirs
    with two_ways(ends, mine, theirs, {ends.first, second}) as live:
        live.check_used(obeys, ends.first, "before a change")
        live.controls[setter].change(_as_backup(one))
        live.wait_for_priorities(obeys, 1)
        live.wait_until_unused(obeys, {ends.first}, f"after the {setter} made the first path a backup")
        live.controls[setter].change(_as_backup(other))
        live.controls[setter].change(one)
        live.wait_for_priorities(obeys, 3)
        live.wait_until_unused(obeys, {second}, f"after the {setter} made the second path the backup instead")
    _keep(live, ends, evidence)
    sent = _priorities(live.packets)
    a, b = (0, 1) if setter == CLIENT else (1, 0)
    wanted = [(True, ends.first), (True, second), (False, ends.first)]
    assert sent == [(flag, pair[a], pair[b]) for flag, pair in wanted], f"MP_PRIO in the capture: {sent}"


def check_set_by_both(ends: Ends, evidence: EvidenceBox) -> None:
    """Check that both ends leave the first subflow when both make its path a backup while data flows."""
    mine, theirs = ends.at_client(SUBFLOW), ends.at_server(SIGNAL)
    pairs = {ends.first, (ends.a[1], ends.b[0]), ends.pair_by_route(ends.b[1])}
    with two_ways(ends, mine, theirs, pairs) as live:
        live.check_used(CLIENT, ends.first, "before a change")
        for end, endpoint in ((CLIENT, mine[0]), (SERVER, theirs[0])):
            live.controls[end].change(_as_backup(endpoint))
        for end, setter in ((CLIENT, SERVER), (SERVER, CLIENT)):
            live.wait_for_priorities(end, 1)
            live.wait_until_unused(end, {ends.first}, f"after the {setter}'s change")
    _keep(live, ends, evidence)
    senders = {local for flag, local, _ in _priorities(live.packets) if flag}
    assert senders == set(ends.first), f"MP_PRIO was sent by {sorted(senders)}"


def check_regular_path_lost(ends: Ends, evidence: EvidenceBox) -> None:
    """Check that both ends leave a backup unused while one of two regular paths fails and the other works."""
    first, second, backup = ends.first, (ends.a[1], ends.b[0]), ends.pair_by_route(ends.b[1])
    mine, theirs = ends.at_client(SUBFLOW)[1:], ends.at_server(SIGNAL)[1:]
    with two_ways(ends, mine, [_as_backup(theirs[0])], {first, second, backup}) as live:
        live.wait_until_unused(CLIENT, {backup}, "beside two working paths")
        with ends.server.probe.fault("drop", direction="both", source=first[0], destination=first[1]):
            for end in (CLIENT, SERVER):
                live.check_used(end, second, "while the first path fails")
                live.wait_until_unused(end, {backup}, "while the first path fails")
    _keep(live, ends, evidence)


#: By case of DIRECT-19: the ends that declare the first subflow's path as backup.
FIRST_IS_BACKUP = {
    "first-by-client": (CLIENT,),
    "first-by-server": (SERVER,),
    "first-by-both": (CLIENT, SERVER),
}


def check_first_as_backup(ends: Ends, declared_by: tuple[str, ...], evidence: EvidenceBox) -> None:
    """Check that the first subflow is unused by the other end if its endpoint is a backup from the beginning.

    It cannot carry a flag in its handshake, so the end that declares it sends MP_PRIO.
    """
    mine = ends.at_client(SUBFLOW) if CLIENT in declared_by else []
    theirs = ends.at_server(SIGNAL) if SERVER in declared_by else []
    pairs = {ends.first}
    if mine:
        mine[0] = _as_backup(mine[0])
        pairs.add((ends.a[1], ends.b[0]))
    if theirs:
        theirs[0] = _as_backup(theirs[0])
        pairs.add(ends.pair_by_route(ends.b[1]))
    with two_ways(ends, mine, theirs, pairs) as live:
        for end in declared_by:
            obeys = SERVER if end == CLIENT else CLIENT
            live.wait_for_priorities(obeys, 1)
            live.wait_until_unused(obeys, _backups(pairs, ends, end), "from the beginning")
    _keep(live, ends, evidence)
    senders = {local for flag, local, _ in _priorities(live.packets) if flag}
    wanted = {ends.first[0] if end == CLIENT else ends.first[1] for end in declared_by}
    assert senders == wanted, f"MP_PRIO was sent by {sorted(senders)}, expected {sorted(wanted)}"


def _backups(pairs: set[AddressPair], ends: Ends, declared_by: str) -> set[AddressPair]:
    """Return the subflows from or to the address of the first subflow that an end declares as backup."""
    side = 0 if declared_by == CLIENT else 1
    return {pair for pair in pairs if pair[side] == ends.first[side]}


def _priorities(packets: list[Segment]) -> list[tuple[bool, str, str]]:
    """Return each MP_PRIO as (backup, from, to), without those that were sent again."""
    found: dict[tuple[bool, str, str], None] = {}
    for segment in packets:
        for option in mptcp_options(segment):
            if isinstance(option, MpPrio):
                found[option.backup, str(segment.src), str(segment.dst)] = None
    return list(found)


def _keep(live: TwoWays, ends: Ends, evidence: EvidenceBox) -> None:
    evidence.subflows(live.phases, name="bytes sent in each phase")
    evidence.packets(rows(live.packets, ends.client.name))
