"""The doctor's own connection as both of its ends saw it, as frozen dataclasses. Pure.

``None`` stands for what is not known: the end was not captured, or its kernel has no such answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mptcp_lab.doctor.unreadable import Unreadable

NOT_CAPTURED = Unreadable("not captured")
#: The states of a pair of addresses: its subflow is established, its SYN was sent and not completed, it was
#: refused by a reset, or no SYN was seen for it.
ESTABLISHED, PENDING, REFUSED, MISSING = "established", "pending", "refused", "missing"


@dataclass(frozen=True)
class Pair:
    """A pair of addresses of client and server. ``why`` says why a subflow is or is not expected there."""

    client: str
    server: str
    state: str
    is_expected: bool = True
    is_first: bool = False
    why: str = ""


@dataclass(frozen=True)
class Reset:
    """A captured RST; ``sender`` is "client" or "server", ``reason`` that of MP_TCPRST, or None."""

    sender: str
    source: str
    destination: str
    reason: int | None = None
    is_transient: bool = False
    is_fast_close: bool = False


@dataclass(frozen=True)
class Handshake:
    """The handshake of the first subflow as one end's capture has it.

    The counts are of packets, retransmitted ones too. ``*_option`` says whether MP_CAPABLE is in the packet;
    None where there is no such packet. ``is_mirrored`` says that the SYN/ACK has the SYN's own option, as
    boxes that echo unknown options make it. ``denies_join`` is the C flag, ``wants_checksum`` the A flag of
    the SYN/ACK.
    """

    syns: int = 0
    syn_option: bool | None = None
    syn_version: int | None = None
    plain_syns: int = 0
    synacks: int = 0
    synack_option: bool | None = None
    synack_version: int | None = None
    is_mirrored: bool = False
    denies_join: bool = False
    wants_checksum: bool = False
    acks: int = 0
    ack_option: bool | None = None
    syn_mss: int | None = None
    synack_mss: int | None = None


@dataclass(frozen=True)
class Join:
    """A join's handshake as one end's capture has it: packets seen, and on which devices."""

    client: str
    server: str
    port: int
    devices: frozenset[str] = frozenset()
    syns: int = 0
    syn_option: bool | None = None
    synacks: int = 0
    synack_option: bool | None = None
    acks: int = 0
    ack_option: bool | None = None
    fourth: int = 0
    address_id: int | None = None
    is_backup: bool = False
    resets: tuple[Reset, ...] = ()


@dataclass(frozen=True)
class Announcement:
    """An ADD_ADDR, or the echo of one; ``sender`` is "client" or "server", ``port`` 0 for none."""

    sender: str
    address: str
    address_id: int
    port: int = 0
    is_echo: bool = False


@dataclass(frozen=True)
class CaptureSummary:
    """The packets that one end captured of the connection. ``dropped`` counts those that it lost."""

    packets: int
    dropped: int = 0
    handshake: Handshake = field(default_factory=Handshake)
    joins: tuple[Join, ...] = ()
    announcements: tuple[Announcement, ...] = ()
    resets: tuple[Reset, ...] = ()
    devices: Mapping[str, int] = field(default_factory=dict)

    def join(self, client: str, server: str) -> Join | None:
        """Return the join between two addresses, or None."""
        return next((each for each in self.joins if (each.client, each.server) == (client, server)), None)


@dataclass(frozen=True)
class Attempt:
    """One try to connect from a local address with a protocol ("mptcp" or "tcp"); ``error`` is errno's name.

    ``source`` is "" where the kernel chose. ``is_mptcp`` is False for a connection that fell back.
    """

    source: str
    destination: str
    protocol: str
    seconds: float
    error: str = ""
    is_mptcp: bool | None = None
    has_closed: bool = False


@dataclass(frozen=True)
class ConnectionReading:
    """The doctor's own connection from one host to another.

    ``attempts`` begins with the MPTCP connection that ``pairs`` and captures are about; a TCP attempt follows
    it where the first one failed or fell back, and one from each other local address of the client. ``info``
    is mptcp_info of the client's socket (None: fallen back); ``subflows`` and ``expected`` count established
    and expected ones, the first included. ``*_counters`` are what each end counted meanwhile, other traffic
    included: by group, changed ones only; a name that the kernel has is in ``HostReading.counters``.
    ``client_nic_bytes`` has the octets that each of the client's devices sent. ``*_events`` are netlink
    events of MPTCP, ``*_pcapng`` the captured headers in base64; neither is there where it could not be read.
    ``listener_after`` is whether the server still listened on the port while the connection was open.
    ``swallowed`` maps "CLIENT SERVER" addresses to the size, in octets, of packets that vanish between them
    while small ones pass.
    """

    port: int
    client_address: str = ""
    server_address: str = ""
    attempts: tuple[Attempt, ...] = ()
    info: Mapping[str, int] | None = None
    subflows: int = 0
    expected: int = 0
    pairs: tuple[Pair, ...] = ()
    client_counters: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    server_counters: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    client_capture: Unreadable | CaptureSummary = NOT_CAPTURED
    server_capture: Unreadable | CaptureSummary = NOT_CAPTURED
    client_nic_bytes: Mapping[str, int] = field(default_factory=dict)
    listener_after: bool | None = None
    swallowed: Mapping[str, int] = field(default_factory=dict)
    client_events: Unreadable | tuple[Mapping[str, Any], ...] = ()
    server_events: Unreadable | tuple[Mapping[str, Any], ...] = ()
    client_pcapng: str = ""
    server_pcapng: str = ""

    @property
    def first(self) -> Attempt | None:
        """Return the attempt with MPTCP, or None where none was made."""
        return next(iter(self.attempts), None)

    @property
    def is_connected(self) -> bool:
        """Return whether the first attempt connected, as MPTCP or not."""
        return self.first is not None and not self.first.error

    @property
    def is_mptcp(self) -> bool | None:
        """Return whether the connection was MPTCP; None where it failed or the kernel cannot tell."""
        return self.first.is_mptcp if self.first is not None else None

    def client_counter(self, name: str, group: str = "MPTcpExt") -> int:
        """Return how much a counter of the client moved; 0 where it did not or the kernel lacks it."""
        return self.client_counters.get(group, {}).get(name, 0)

    def server_counter(self, name: str, group: str = "MPTcpExt") -> int:
        """Return how much a counter of the server moved; 0 where it did not or the kernel lacks it."""
        return self.server_counters.get(group, {}).get(name, 0)

    def missing_pairs(self) -> tuple[Pair, ...]:
        """Return the pairs that should have a subflow and have none."""
        return tuple(each for each in self.pairs if each.is_expected and each.state != ESTABLISHED)
