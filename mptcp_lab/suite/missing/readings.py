"""The readings of a connection with missing subflows: both ends, and each missing pair. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mptcp_lab.probe.facts import Counters, Endpoint, Limits
from mptcp_lab.suite.matrix import Room

NO_LIMITS = Room()


@dataclass(frozen=True)
class EndReading:
    """The state of one end of a connection, and what its counters counted since the connection began.

    ``addresses`` maps each address of a device that is up to that device. ``filters`` names the nftables
    tables that drop or reject packets.
    """

    name: str
    counters: Counters
    endpoints: tuple[Endpoint, ...] = ()
    limits: Limits | None = None
    addresses: Mapping[str, str] = field(default_factory=dict)
    sysctls: Mapping[str, str] = field(default_factory=dict)
    filters: tuple[str, ...] = ()

    def endpoint(self, address: str) -> Endpoint | None:
        """Return the endpoint with this address, or None."""
        return next((each for each in self.endpoints if each.address == address), None)


@dataclass(frozen=True)
class Handshake:
    """The packets of a join's handshake that were captured at the client and at the server.

    ``devices`` are the client's devices on which the SYN was captured. ``syn_arrived``, ``answered`` and
    ``third_arrived`` are seen at the server; they are None where its packets cannot be matched with the
    client's, because addresses are translated on the way. ``taken`` is whether the server acknowledged the
    third packet: it has the subflow. ``refused_by`` names the sender of a RST and its reason.
    """

    devices: frozenset[str] = frozenset()
    syn_sent: bool = False
    syn_arrived: bool | None = None
    answered: bool | None = None
    answer_arrived: bool = False
    third_sent: bool = False
    third_arrived: bool | None = None
    taken: bool = False
    refused_by: str = ""


@dataclass(frozen=True)
class Route:
    """The route that a kernel chooses: device and next hop (empty for an on-link address), or its error."""

    device: str = ""
    via: str = ""
    error: str = ""


NOT_READ = Route()
#: The text with which `matrix.py` begins to describe how a pair is reached through a gateway.
ROUTED = "routed by "


@dataclass(frozen=True)
class PairReading:
    """One missing subflow: the state of its sockets at both ends, the client's route, and captured packets.

    ``way`` is the matrix's description of how the server's address is reached. ``announced`` is whether the
    server's announcement of the address was captured at the client; None without a capture.
    """

    device: str
    local: str
    remote: str
    client_state: str = ""
    server_state: str = ""
    route: Route = NOT_READ
    way: str = ""
    handshake: Handshake | None = None
    announced: bool | None = None

    def __str__(self) -> str:
        return f"{self.local} ({self.device}) > {self.remote}"

    @property
    def is_tried(self) -> bool:
        """Return whether the client's kernel has a socket for the subflow, or its SYN was captured."""
        return bool(self.client_state) or (self.handshake is not None and self.handshake.syn_sent)

    def packet(self, name: str) -> bool | None:
        """Return whether a packet, a field of `Handshake`, was captured; None where that is not known."""
        found: bool | None = None if self.handshake is None else getattr(self.handshake, name)
        return found


@dataclass(frozen=True)
class Readings:
    """The input of the rules.

    ``first`` is the first subflow as (local, remote), and ``established`` the number of subflows that both
    ends have established. ``server_addresses`` are the addresses that the inventory gives the server; any
    other address is translated on the way. ``strange_peers`` are remote addresses of established sockets at
    the server that no expected subflow explains.
    """

    client: EndReading
    server: EndReading
    first: tuple[str, str]
    pairs: tuple[PairReading, ...]
    established: int
    room: Room = NO_LIMITS
    is_mptcp: bool = True
    made_by_endpoints: bool = True
    server_addresses: frozenset[str] = frozenset()
    strange_peers: frozenset[str] = frozenset()
