"""Do things to one connection, and check the events of both kernels' path managers (DIRECT-23)."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

from mptcp_lab.errors import Unsupported
from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import EventWatch, NeverHappened, eventually
from mptcp_lab.probe.facts import Subflow
from mptcp_lab.suite.deviations import NO_LISTENER_EVENTS, check_not_lacking
from mptcp_lab.suite.direct.both_ends import served_client
from mptcp_lab.suite.direct.event_order import Order, count, describe, expect, find_difference
from mptcp_lab.suite.direct.live import check_exchange, established_subflows, ports
from mptcp_lab.suite.direct.pathless import dead_path, keep_alive, short_keepalive
from mptcp_lab.suite.expectations import expected_pairs, wait_for_joins

EVENT_TIMEOUT_S = 15.0
#: The kernel's numbers of the families, as events have them.
FAMILY_NUMBERS = {4: 2, 6: 10}
#: A bit of an event's flags: the peer forbids joins to its first address (include/uapi/linux/mptcp.h).
DENY_JOIN_ID0 = 1
C_FLAG = "net.mptcp.allow_join_initial_addr_port"


@dataclass
class End:
    """The events of one connection at one end; ``checked`` of them were compared already."""

    name: str
    watch: EventWatch
    token: int = 0
    checked: int = 0

    def events(self) -> list[Mapping[str, Any]]:
        """Return the events of the connection so far."""
        return [event for event in self.watch.all() if event.get("token") == self.token]

    def check(self, what: str, order: Order) -> None:
        """Check that exactly these events have come since the last call; `what` is what caused them."""
        with suppress(NeverHappened):  # the comparison says what is missing
            eventually(
                self.events,
                until=lambda seen: len(seen) >= self.checked + count(order),
                within=EVENT_TIMEOUT_S,
            )
        came = self.events()[self.checked :]
        self.checked += len(came)
        difference = find_difference(order, came)
        assert not difference, f"events at {self.name}, {what}: {difference}"


class Watched:
    """A connection whose events are watched at both ends; the server announces no address at first.

    ``client_ids`` and ``server_ids`` are the ids of the endpoints by their addresses. An id is 0 for the
    address with which the connection began.
    """

    def __init__(self, stack: ExitStack, client: Machine, server: Machine, family: int) -> None:
        self.client, self.server, self.family = client, server, family
        first, second = (server.address(path, family) for path in (0, 1))
        ids = [{each.address: each.id for each in m.probe.endpoints()} for m in (client, server)]
        self.client_ids = {**ids[0], client.address(0, family): 0}
        self.server_ids = {**ids[1], first: 0}
        self.kept_back = {
            each.address: stack.enter_context(server.probe.fault("endpoint_remove", address=each.address))
            for each in server.probe.endpoints()
            if "signal" in each.flags
        }
        self.a = End(client.name, stack.enter_context(client.probe.watch_events()))
        self.b = End(server.name, stack.enter_context(server.probe.watch_events()))
        listeners = [stack.enter_context(server.probe.listen(first, 0))]
        listeners.append(stack.enter_context(server.probe.listen(second, listeners[0].port)))
        self.connection = stack.enter_context(served_client(client, server, listeners))
        for end, stream in ((self.a, self.connection.stream), (self.b, self.connection.accepted)):
            info = stream.facts().info
            assert info is not None, f"the connection fell back to TCP at {end.name}"
            end.token = info["token"]
        self.known = set(established_subflows(self.connection.stream))

    def check(self, what: str, at_client: Order, at_server: Order) -> None:
        """Check that just these events have come at either end since the last call."""
        self.a.check(what, at_client)
        self.b.check(what, at_server)

    def new_subflows(self, expected: int) -> list[Subflow]:
        """Wait for so many subflows that were not there at the last call; return them."""

        def read() -> list[Subflow]:
            found = established_subflows(self.connection.stream)
            return [subflow for key, subflow in found.items() if key not in self.known]

        found = eventually(read, until=lambda new: len(new) >= expected, within=EVENT_TIMEOUT_S)
        self.known |= {ports(subflow) for subflow in found}
        return found

    def at_client(self, subflow: Subflow) -> dict[str, object]:
        """Return the fields by which the client's kernel names a subflow."""
        return {
            "family": FAMILY_NUMBERS[self.family],
            "saddr": subflow.local,
            "sport": subflow.lport,
            "daddr": subflow.remote,
            "dport": subflow.rport,
            "loc_id": self.client_ids[subflow.local],
            "rem_id": self.server_ids[subflow.remote],
        }

    def at_server(self, subflow: Subflow) -> dict[str, object]:
        """Return the fields by which the server's kernel names a subflow."""
        mine = self.at_client(subflow)
        other = {"saddr": "daddr", "sport": "dport", "loc_id": "rem_id"}
        swapped = {**other, **{value: key for key, value in other.items()}}
        return {swapped.get(key, key): value for key, value in mine.items()}

    def keep(self, evidence: EvidenceBox) -> None:
        """Keep every event of both ends as evidence."""
        for end in (self.a, self.b):
            evidence.text(f"events at {end.name}", "\n".join(map(describe, end.events())) + "\n")


def check_life(client: Machine, server: Machine, family: int, evidence: EvidenceBox) -> None:
    """Check the events of a connection's whole life: each comes once, in its place, with its fields."""
    with ExitStack() as stack:
        watched = Watched(stack, client, server, family)
        try:
            joined = _begin(watched)
            joined = _reset_and_join_again(watched, joined)
            _change_priority(watched, joined)
            _announce_and_withdraw(watched, stack)
            _remove_endpoint(watched, joined, stack)
            watched.connection.stream.close()
            watched.connection.accepted.close()
            watched.check("when it was closed", [expect("closed")], [expect("closed")])
        finally:
            watched.keep(evidence)


def _begin(watched: Watched) -> Subflow:
    """Exchange data, and check the beginning; return the subflow from the client's second path."""
    client, server, family = watched.client, watched.server, watched.family
    (first,) = established_subflows(watched.connection.stream).values()
    check_exchange(watched.connection, "at first")
    matrix = expected_pairs(client, server, family).pairs_towards({server.address(0, family)})
    wait_for_joins(watched.connection, matrix)
    joined = watched.new_subflows(len(matrix.present) - 1)
    mine, theirs = watched.at_client(first), watched.at_server(first)
    watched.check(
        "when it began",
        [
            expect("created", server_side=0, **mine),
            expect("established", server_side=0, **mine),
            [expect("sub_established", backup=0, **watched.at_client(each)) for each in joined],
        ],
        [
            expect("created", server_side=1, **theirs),
            expect("established", server_side=1, **theirs),
            [expect("sub_established", backup=0, **watched.at_server(each)) for each in joined],
        ],
    )
    return next(each for each in joined if each.local == client.address(1, family))


def _reset_and_join_again(watched: Watched, subflow: Subflow) -> Subflow:
    """Reset a subflow, and let its endpoint go and come back; return the subflow that it makes then."""
    watched.connection.stream.kill_subflow(subflow)
    watched.check(
        "when a subflow was reset",
        [expect("sub_closed", error=errno.ECONNABORTED, **watched.at_client(subflow))],
        [expect("sub_closed", error=errno.ECONNRESET, **watched.at_server(subflow))],
    )
    with watched.client.probe.fault("endpoint_remove", address=subflow.local):
        pass  # an endpoint without a subflow: no packet goes to the peer, as the next events show
    (joined,) = watched.new_subflows(1)
    watched.check(
        "when an endpoint came back",
        [expect("sub_established", backup=0, **watched.at_client(joined))],
        [expect("sub_established", backup=0, **watched.at_server(joined))],
    )
    return joined


def _change_priority(watched: Watched, subflow: Subflow) -> None:
    probe = watched.client.probe
    endpoint = next(each for each in probe.endpoints() if each.address == subflow.local)
    fields = watched.at_server(subflow)
    with probe.fault("endpoint_change", address=subflow.local, flags=sorted(endpoint.flags | {"backup"})):
        watched.check("when a path became a backup", [], [expect("sub_priority", backup=1, **fields)])
    watched.check("when it became regular", [], [expect("sub_priority", backup=0, **fields)])


def _announce_and_withdraw(watched: Watched, stack: ExitStack) -> None:
    address = watched.server.address(1, watched.family)
    identity = watched.server_ids[address]
    pairs = expected_pairs(watched.client, watched.server, watched.family).pairs_towards({address})
    watched.kept_back[address].lift()
    joined = watched.new_subflows(len(pairs.present))
    watched.check(
        "when an address was announced",
        [
            # Without the family: the corrections say why.
            expect("announced", rem_id=identity, daddr=address, dport=joined[0].rport),
            [expect("sub_established", **watched.at_client(each)) for each in joined],
        ],
        [[expect("sub_established", **watched.at_server(each)) for each in joined]],
    )
    stack.enter_context(watched.server.probe.fault("endpoint_remove", address=address))
    watched.check(
        "when it was withdrawn",
        [
            expect("removed", rem_id=identity),
            [expect("sub_closed", error=0, **watched.at_client(each)) for each in joined],
        ],
        [[expect("sub_closed", error=0, **watched.at_server(each)) for each in joined]],
    )


def _remove_endpoint(watched: Watched, subflow: Subflow, stack: ExitStack) -> None:
    stack.enter_context(watched.client.probe.fault("endpoint_remove", address=subflow.local))
    watched.check(
        "when an endpoint was removed",
        [expect("sub_closed", error=0, **watched.at_client(subflow))],
        [
            expect("removed", rem_id=watched.client_ids[subflow.local]),
            expect("sub_closed", error=0, **watched.at_server(subflow)),
        ],
    )


def check_dead_path(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """Check that both kernels report the end of each subflow of a dead path, with the error of a timeout."""
    with short_keepalive((client, server)), ExitStack() as stack:
        watched = Watched(stack, client, server, 4)
        try:
            joined = _begin(watched)
            keep_alive(watched.connection)
            with dead_path(client, server, 1):
                watched.check(
                    "when its path was dead",
                    [expect("sub_closed", error=errno.ETIMEDOUT, **watched.at_client(joined))],
                    [expect("sub_closed", error=errno.ETIMEDOUT, **watched.at_server(joined))],
                )
        finally:
            watched.keep(evidence)


def check_c_flag(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """Check that the client's events show that the server forbids joins to its first address.

    Raises:
        Unsupported: no event of the client's kernel has flags, as far as the check sees.
    """
    with server.probe.fault("sysctl", name=C_FLAG, value=0), ExitStack() as stack:
        watched = Watched(stack, client, server, 4)
        check_exchange(watched.connection, "at first")
        watched.a.watch.wait_for(
            lambda event: (event["type"], event.get("token")) == ("established", watched.a.token),
            within=EVENT_TIMEOUT_S,
        )
        flags = {event["type"]: event.get("flags", 0) for event in watched.a.events()}
        theirs = [event.get("flags", 0) for event in watched.b.events()]
        watched.keep(evidence)
    if not any(flags.values()) and not (any(theirs) and client.probe.kernel == server.probe.kernel):
        raise Unsupported("flags of events", f"Linux {client.probe.kernel} reports none", client.name)
    assert all(value & DENY_JOIN_ID0 for value in flags.values()), f"flags of the client's events: {flags}"


def check_listener(server: Machine, evidence: EvidenceBox) -> None:
    """Check that the kernel reports the beginning and the end of a listener, once each."""
    check_not_lacking(NO_LISTENER_EVENTS, server.probe.kernel, server.name, what="events of listeners")
    address = server.address(0)
    with server.probe.watch_events() as watch:
        with server.probe.listen(address, 0) as listener:
            port = listener.port
        order = [expect(f"listener_{what}", saddr=address, sport=port) for what in ("created", "closed")]
        watch.wait_for(lambda event: event["type"] == "listener_closed", within=EVENT_TIMEOUT_S)
        came = [event for event in watch.all() if event.get("sport") == port and "token" not in event]
    evidence.text(f"events at {server.name}", "\n".join(map(describe, came)) + "\n")
    difference = find_difference(order, came)
    assert not difference, f"events of a listener at {server.name}: {difference}"
