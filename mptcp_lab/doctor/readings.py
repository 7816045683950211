"""The input of the doctor's rules: readings of two or three hosts and of their connections. Pure.

`PairReading` is what a rule gets. Recorded readings are JSON files: `to_document` and `from_document`
convert. The parts are in the files `*_reading.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from mptcp_lab.doctor.connection_reading import ConnectionReading
from mptcp_lab.doctor.host_reading import HostReading
from mptcp_lab.doctor.unreadable import Unreadable
from mptcp_lab.probe.shapes import read_as


class Leg(NamedTuple):
    """Two hosts between which a connection is meant to be MPTCP, its port, and the doctor's own connection.

    ``server`` is None where only the client's side can be read (``--remote``). ``connection`` is None where
    none was tried.
    """

    client: HostReading
    server: HostReading | None
    port: int
    connection: ConnectionReading | None


@dataclass(frozen=True)
class PairReading:
    """Client and server, a proxy between them if there is one, and the doctor's connections.

    ``connection`` is the client's: to the proxy where there is one, else to the server. ``onward`` is the
    proxy's to the server. ``port`` is the one that the client connects to, ``server_port`` the server's
    behind a proxy.
    """

    client: HostReading
    server: HostReading | None
    port: int
    connection: ConnectionReading | None = None
    proxy: HostReading | None = None
    onward: ConnectionReading | None = None
    server_port: int = 0

    @property
    def hosts(self) -> tuple[HostReading, ...]:
        """Return all hosts that were read, the client first."""
        return tuple(host for host in (self.client, self.proxy, self.server) if host is not None)

    @property
    def legs(self) -> tuple[Leg, ...]:
        """Return the connections that should be MPTCP: that of a pair, or the two of a pair with a proxy.

        Behind a proxy, plain TCP is what many want: the second counts only if the server listens with MPTCP.
        """
        front, *behind = self.connections
        return (front, *(leg for leg in behind if _listens_with_mptcp(leg)))

    @property
    def connections(self) -> tuple[Leg, ...]:
        """Return all connections that the doctor made, meant to be MPTCP or not."""
        if self.proxy is None:
            return (Leg(self.client, self.server, self.port, self.connection),)
        front = Leg(self.client, self.proxy, self.port, self.connection)
        return (front, Leg(self.proxy, self.server, self.server_port or self.port, self.onward))


def _listens_with_mptcp(leg: Leg) -> bool:
    """Return whether a leg's server has an MPTCP listener on the port; true where that is not known."""
    if leg.server is None or isinstance(leg.server.listeners, Unreadable):
        return True
    return any(each.protocol == "mptcp" for each in leg.server.listeners_on(leg.port))


def to_document(value: Any) -> Any:
    """Return a reading as JSON can hold it: dataclasses as objects, sets as sorted lists."""
    if isinstance(value, Unreadable):
        return value.to_document()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: to_document(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, frozenset):
        return sorted(to_document(each) for each in value)
    if isinstance(value, list | tuple):
        return [to_document(each) for each in value]
    if isinstance(value, Mapping):
        return {str(key): to_document(each) for key, each in value.items()}
    return value


def from_document(document: Any) -> PairReading:
    """Return the reading that `to_document` made a document of; raise `Misshapen` for anything else.

    A field that has a default may be left out.
    """
    return read_as(PairReading, document)
