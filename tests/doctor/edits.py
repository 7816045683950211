"""Edits of a recorded reading, each of which makes of a healthy reading what a fault makes of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from mptcp_lab.doctor.connection_reading import (
    ESTABLISHED,
    PENDING,
    REFUSED,
    Attempt,
    CaptureSummary,
    ConnectionReading,
    Join,
    Pair,
    Reset,
)
from mptcp_lab.doctor.expect import expected_pairs, settle
from mptcp_lab.doctor.host_reading import HostReading
from mptcp_lab.doctor.network_reading import Lookup
from mptcp_lab.doctor.readings import PairReading, from_document
from mptcp_lab.doctor.service_reading import Listener, Process, Unit
from mptcp_lab.probe.facts import Endpoint

RECORDED = Path(__file__).parent / "recorded"
#: Two hosts with two paths, made by hand, and the embedded lab's client and server1 as the doctor read them.
HEALTHY, EMBEDDED = (
    from_document(json.loads((RECORDED / name).read_text())) for name in ("healthy.json", "embedded.json")
)
#: The addresses of two paths, which both readings have.
A1, A2, B1, B2 = "198.18.1.10", "198.18.2.10", "198.18.1.31", "198.18.2.31"
A2V6, B1V6 = "2001:db8:2::10", "2001:db8:1::31"
PORT = 7000
SERVICE = 345
UNIT = "mptcp-lab-origin.service"

Edit = Callable[[PairReading], PairReading]


def chain(*edits: Edit) -> Edit:
    """Return an edit that makes all of these in turn."""

    def edit(reading: PairReading) -> PairReading:
        for each in edits:
            reading = each(reading)
        return reading

    return edit


def host_of(reading: PairReading, name: str) -> HostReading:
    return reading.client if name == "client" else must(reading.server)


def must(value: Any) -> Any:
    assert value is not None
    return value


def on(name: str, **fields: Any) -> Edit:
    """Set fields of a host: "client" or "server"; a function gets the old value."""

    def edit(reading: PairReading) -> PairReading:
        host = host_of(reading, name)
        values = {key: each(getattr(host, key)) if callable(each) else each for key, each in fields.items()}
        return replace(reading, **{name: replace(host, **values)})

    return edit


def set_link(name: str, device: str, **fields: Any) -> Edit:
    """Set fields of one device of a host."""
    return on(
        name,
        links=lambda old: tuple(replace(each, **fields) if each.name == device else each for each in old),
    )


def mark_address(name: str, address: str, *words: str) -> Edit:
    """Give one address of a host these flags."""
    return on(
        name,
        addresses=lambda old: tuple(
            replace(each, flags=frozenset(words)) if each.address == address else each for each in old
        ),
    )


def sysctl(name: str, key: str, value: str) -> Edit:
    return on(name, sysctls=lambda old: {**old, key: value})


def tried(**fields: Any) -> Edit:
    """Set fields of the doctor's connection; a function gets the old value."""

    def edit(reading: PairReading) -> PairReading:
        old = must(reading.connection)
        values = {key: each(getattr(old, key)) if callable(each) else each for key, each in fields.items()}
        return replace(reading, connection=replace(old, **values))

    return edit


def moved(end: str, group: str = "MPTcpExt", **values: int) -> Edit:
    """Let counters of an end move by so much."""
    return tried(**{f"{end}_counters": lambda old: {**old, group: {**old.get(group, {}), **values}}})


def endpoints(name: str, change: Callable[[Endpoint], Endpoint | None]) -> Edit:
    """Change each endpoint of a host; None deletes it."""
    return on(name, endpoints=lambda old: tuple(new for each in old if (new := change(each)) is not None))


def flags(name: str, *words: str, address: str = "") -> Edit:
    """Give endpoints of a host these flags: one address's, or all."""
    return endpoints(
        name, lambda each: replace(each, flags=frozenset(words)) if address in {"", each.address} else each
    )


def lookups(name: str, change: Callable[[Lookup], Lookup]) -> Edit:
    return on(name, lookups=lambda old: tuple(map(change, old)))


def connect(reading: PairReading) -> PairReading:
    """Connect anew: the pairs are those that endpoints, limits and routes give, and all that can come up."""
    connection, server = must(reading.connection), must(reading.server)
    first = (connection.client_address, connection.server_address)
    pairs = expected_pairs(reading.client, server, first)
    states = {(each.client, each.server): ESTABLISHED for each in pairs if each.is_expected}
    room = min(reading.client.limits.subflows, server.limits.subflows)  # type: ignore[union-attr]
    settled = settle(pairs, states, room)
    joins = len(states) - 1
    edit = chain(
        tried(pairs=settled, subflows=len(states), expected=len(states)),
        captured(lambda join: join if (join.client, join.server) in states else None),
        moved("client", MPJoinSynTx=joins, MPJoinSynAckRx=joins),
        moved("server", MPJoinSynRx=joins, MPJoinAckRx=joins),
    )
    return edit(reading)


def captured(change: Callable[[Join], Join | None], ends: Iterable[str] = ("client", "server")) -> Edit:
    """Change each captured join at these ends; None deletes it."""

    def summary(old: CaptureSummary) -> CaptureSummary:
        return replace(old, joins=tuple(new for each in old.joins if (new := change(each)) is not None))

    return tried(**{f"{end}_capture": summary for end in ends})


def handshake(end: str, **fields: Any) -> Edit:
    """Set fields of the first handshake as an end captured it."""
    return tried(
        **{f"{end}_capture": lambda old: replace(old, handshake=replace(old.handshake, **fields), joins=())}
    )


def fall_back(reading: PairReading) -> PairReading:
    """Let the doctor's connection be TCP: one subflow, no joins, no announcement."""
    connection: ConnectionReading = must(reading.connection)
    first = replace(must(connection.first), is_mptcp=False)
    edit = chain(
        tried(
            attempts=(first, *connection.attempts[1:]),
            info=None,
            subflows=1,
            pairs=connection.pairs[:1],
            client_counters={"MPTcpExt": {"MPCapableSYNTX": 1, "MPCapableFallbackSYNACK": 1}},
            server_counters={},
        ),
        captured(lambda _: None),
        handshake("client", synack_option=False),
        handshake("server", synack_option=False),
    )
    return edit(reading)


def lose(*pairs: tuple[str, str], at: str = "syn", state: str = PENDING) -> Edit:
    """Lose a packet of the joins of these pairs: "syn" or "third" on the way there, "answer" on the way back.

    At "client" and "server" the packet comes to that host, and the host does not answer.
    """

    def is_hit(each: Join | Pair) -> bool:
        return (each.client, each.server) in pairs

    def here(join: Join) -> Join | None:
        if not is_hit(join):
            return join
        came = 0 if at in {"syn", "answer", "server"} else 1
        return replace(
            join,
            synacks=came,
            synack_option=True if came else None,
            acks=1 if at in {"third", "taken"} else 0,
            ack_option=True if at in {"third", "taken"} else None,
        )

    def there(join: Join) -> Join | None:
        if not is_hit(join):
            return join
        if at == "syn":
            return None
        answered = 0 if at == "server" else 1
        return replace(
            join, synacks=answered, synack_option=True if answered else None, acks=0, ack_option=None
        )

    n = len(pairs)
    counters = {
        "syn": ((3, 3 - n), (3 - n, 3 - n)),
        "server": ((3, 3 - n), (3 - n, 3 - n)),
        "answer": ((3, 3 - n), (3, 3 - n)),
        "client": ((3, 3 - n), (3, 3 - n)),
        "third": ((3, 3), (3, 3 - n)),
    }[at]
    return chain(
        tried(
            pairs=lambda old: tuple(replace(each, state=state) if is_hit(each) else each for each in old),
            subflows=4 - n,
        ),
        captured(here, ["client"]),
        captured(there, ["server"]),
        moved("client", MPJoinSynTx=counters[0][0], MPJoinSynAckRx=counters[0][1]),
        moved("server", MPJoinSynRx=counters[1][0], MPJoinAckRx=counters[1][1]),
    )


def refuse(*pairs: tuple[str, str], sender: str = "server", reason: int | None = None) -> Edit:
    """Let one end answer joins of these pairs with a reset."""

    def reset(join: Join) -> Join:
        if (join.client, join.server) not in pairs:
            return join
        ends = (join.server, join.client) if sender == "server" else (join.client, join.server)
        return replace(
            join,
            synacks=0,
            synack_option=None,
            acks=0,
            ack_option=None,
            resets=(Reset(sender, *ends, reason),),
        )

    return chain(lose(*pairs, at="server", state=REFUSED), captured(reset))


def listener(*sockets: Listener) -> Edit:
    """Replace the sockets of the server's port."""
    return on("server", listeners=lambda old: (*(each for each in old if each.port != PORT), *sockets))


def process(**fields: Any) -> Edit:
    return on("server", processes=(replace(Process(SERVICE, "nginx", unit=UNIT, started=20.0), **fields),))


def unit(text: str, **fields: Any) -> Edit:
    fragment = fields.pop("fragment", "/etc/systemd/system/" + UNIT)
    whole = Unit(UNIT, "active", fragment, files={fragment: text}, started=20.0, changed=-50.0)
    return on("server", units=(replace(whole, **fields),))


TCP_SOCKET = Listener("tcp", "0.0.0.0", PORT, SERVICE, 0, 128)
#: The service listens with plain TCP, and the connection falls back.
PLAIN = chain(listener(TCP_SOCKET), fall_back)
TCP_ATTEMPT = Attempt("", B1, "tcp", 0.001)
