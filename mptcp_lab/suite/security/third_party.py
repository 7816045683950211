"""Let a malicious server send a client's joins to a third party that never asked for them."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address

from mptcp_lab.machines.session import Machine
from mptcp_lab.suite.packets import first_syns, joins, segments
from mptcp_lab.suite.rfc8684.peer_subflow import Subflow
from mptcp_lab.wire import AddAddr, RemoveAddr, Segment
from mptcp_lab.wire.packet import ACK

#: Announcements of one attack: several times more than a client accepts.
ANNOUNCED = 32
#: Ports of the third party at which nothing listens: it answers each SYN with a RST.
FIRST_PORT = 10_000
LAST_ID = 200


def _other_ports(first: Subflow, victim: IPv4Address) -> None:
    for number in range(ANNOUNCED):
        _announce(first, number + 1, victim, FIRST_PORT + number)


def _same_port(first: Subflow, victim: IPv4Address) -> None:
    for _ in range(ANNOUNCED):
        _announce(first, 1, victim, FIRST_PORT)


def _withdrawn(first: Subflow, victim: IPv4Address) -> None:
    for number in range(ANNOUNCED):
        _announce(first, 1, victim, FIRST_PORT + number)
        first.says(ACK, RemoveAddr((1,)))


#: Ways to announce a third party's address again and again on one connection.
WAYS: dict[str, Callable[[Subflow, IPv4Address], None]] = {
    "other-ports": _other_ports,
    "same-port": _same_port,
    "withdrawn": _withdrawn,
}


def announce(first: Subflow, victim: Machine, way: str) -> None:
    """Announce a third party's address `ANNOUNCED` times, until the client has echoed the last one."""
    address = IPv4Address(victim.address(0))
    WAYS[way](first, address)
    _announce(first, LAST_ID, address, FIRST_PORT)


def _announce(first: Subflow, address_id: int, address: IPv4Address, port: int) -> None:
    """Announce an address with a port, and wait for the echo, without which the next one may be dropped."""
    first.says(ACK, first.endpoint.add_addr(address_id, address, port))
    first.hears(ACK, lambda segment: _echoes(segment, address_id), f"echo of announcement {address_id}")


def _echoes(segment: Segment, address_id: int) -> bool:
    options = [option for option in segment.options if isinstance(option, AddAddr)]
    return any(option.echo and option.address_id == address_id for option in options)


def joins_at(victim: bytes) -> list[Segment]:
    """Return the joins in a third party's capture that go to the announced ports."""
    asked = joins(first_syns(segments(victim)))
    return [s for s in asked if FIRST_PORT <= s.dport < FIRST_PORT + ANNOUNCED]


def most_joins(client: Machine) -> int:
    """Return the most joins that a client may send to announced addresses on one connection.

    It accepts so many announcements, and joins each from its own endpoints.
    """
    accepted = client.probe.limits().add_addr_accepted
    return accepted * sum("subflow" in endpoint.flags for endpoint in client.probe.endpoints())
