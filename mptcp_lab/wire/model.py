"""What a capture says about its connections: what `analyse` makes and the rows read.

Sequence numbers: `ssn` counts from the subflow's SYN (0), so data starts at 1; DSNs are full 64 bits.
Packets are named by their number in the capture, from 1.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, TypeVar

from mptcp_lab.wire.options import AddAddr, MptcpOption
from mptcp_lab.wire.packet import IpAddress, Segment
from mptcp_lab.wire.ranges import RangeSet

KEPT = 200
"""How many entries a Log keeps: memory stays flat however long the capture is."""

T = TypeVar("T")


class Log(Generic[T]):
    """The first KEPT entries of something that may happen often, and how often it did."""

    __slots__ = ("_kept", "total")

    def __init__(self) -> None:
        self._kept: list[T] = []
        self.total = 0

    def add(self, entry: T) -> None:
        """Count it; keep it while there is room."""
        self.total += 1
        if len(self._kept) < KEPT:
            self._kept.append(entry)

    def __iter__(self) -> Iterator[T]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: int) -> T:
        return self._kept[index]


class Side(Enum):
    """An end of a connection: who sent the first SYN, and who answered."""

    CLIENT = "client"
    SERVER = "server"

    @property
    def peer(self) -> Side:
        """The other end."""
        return Side.SERVER if self is Side.CLIENT else Side.CLIENT


class State(Enum):
    """What a connection is: the last word of the capture."""

    MPTCP = "mptcp"
    FALLBACK = "fallback"
    TCP = "tcp"
    OPENING = "opening"
    PARTIAL = "partial"


class Lack(Enum):
    """A kind of packets that a capture does not have although they were sent."""

    START = "start"
    DIRECTION = "direction"
    HANDSHAKE = "handshake"
    OCTETS = "octets"
    OPTIONS = "options"
    HEADERS = "headers"
    PATH = "path"


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that was sent and not captured: what, how that is known, and from which packet on."""

    lack: Lack
    text: str
    packet: int


@dataclass(frozen=True, slots=True)
class Event:
    """An MPTCP option that stands for something happening: who sent it, where and when."""

    packet: int
    time_ns: int
    side: Side
    subflow: int
    option: MptcpOption
    on_rst: bool = False


@dataclass(frozen=True, slots=True)
class Announcement:
    """An ADD_ADDR (not an echo), with the port it was sent from."""

    packet: int
    time_ns: int
    side: Side
    subflow: int
    option: AddAddr
    port: int
    connection_packets: int  # of the connection up to here
    peer_packets: int  # of the peer on this subflow up to here


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that the stream of packets should not show: `kind` as in `mptcp_lab.wire.analyse`."""

    kind: str
    packet: int
    side: Side
    detail: str


@dataclass(frozen=True, slots=True)
class Reinjection:
    """Data sent again in another place of a subflow's stream: `of_packet` and `of_subflow` had it before."""

    packet: int
    time_ns: int
    side: Side
    subflow: int
    dsn: int
    length: int
    of_packet: int | None
    of_subflow: int | None


@dataclass(frozen=True, slots=True)
class Fallback:
    """When and why a connection went on as TCP."""

    packet: int
    time_ns: int
    reason: str


@dataclass(frozen=True, slots=True)
class Sent:
    """A mapping that no DATA_ACK covers yet; `octets`: length of its DSN on the wire (MP_CAPABLE: 0)."""

    start: int
    end: int
    subflow: int
    packet: int
    octets: int


@dataclass(slots=True)
class Stream:
    """The data one side sends, over all subflows, and what the other acknowledges of it."""

    side: Side
    key: int | None = None
    token: int | None = None
    idsn: int | None = None
    mapped: RangeSet = field(default_factory=RangeSet)
    first_dsn: int | None = None
    first_packet: int | None = None
    highest: int | None = None  # one past the highest DSN mapped
    acked: int | None = None  # the highest DATA_ACK for this stream
    acked_packet: int | None = None
    edge: int | None = None  # the highest DSN + 1 that the receiver's windows have allowed
    reach: int | None = None  # the same, with windows that a duplicate acknowledgement does not make smaller
    scale_unknown: bool = False  # a window came on a subflow whose SYNs are not in the capture
    mappings: int = 0
    checksummed: int = 0
    first_checksummed: int | None = None
    first_bare: int | None = None  # first packet with a mapping and no checksum
    reinjected: int = 0  # octets
    data_fin: int | None = None  # its DSN
    data_fin_packet: int | None = None
    data_fin_acked_packet: int | None = None
    early_fin_ack: int | None = None  # packet that acknowledged a DATA_FIN with a hole before it
    data_acks: int = 0
    data_acks_short: int = 0  # of 4 octets
    unacked: deque[Sent] = field(default_factory=deque)


@dataclass(slots=True)
class MappedRange:
    """A run of a subflow's stream with one distance to the data stream."""

    start: int
    end: int
    delta: int
    packet: int


@dataclass(slots=True)
class Half:
    """One direction of a subflow."""

    side: Side
    isn: int | None = None
    synced: bool = False  # the ISN is known, not guessed
    next_ssn: int = 0
    acked: int = 0
    window_scale: int = 0
    window: int = 0  # in force, unscaled: TCP's rules say which segments change it
    window_seq: int = -1  # this side's sequence number at its last update
    seen: RangeSet = field(default_factory=RangeSet)
    payload: int = 0  # octets, each counted once
    retransmitted: int = 0  # octets
    resending: bool = False  # the last packet with data was a retransmission
    new_data: int = 0  # octets of new data (not reinjected) mapped here
    fin_packet: int | None = None
    rst_packet: int | None = None
    mapped: RangeSet = field(default_factory=RangeSet)  # of the subflow's octets, those with a mapping
    ranges: deque[MappedRange] = field(default_factory=deque)
    unmapped: list[tuple[int, int, int]] = field(default_factory=list)  # start, end, packet
    data_ack: int | None = None
    packets: int = 0
    missing_packet: int | None = None  # where the peer acknowledged what had not been captured
    backup: bool = False  # this side asks the other not to use the subflow
    mptcp_packets: int = 0
    syn_data: int = 0  # octets of the SYN's data that the SYN/ACK took (TCP Fast Open): outside the stream
    first_mapping: int | None = None  # subflow sequence number of the first mapping of data
    plain_end: int | None = None  # ssn after the first payload or SYN/ACK without MPTCP options


@dataclass(slots=True)
class Subflow:
    """A TCP connection that is part of an MPTCP connection; `opener` is the side that sent its SYN."""

    id: int
    opener: Side
    src: IpAddress
    sport: int
    dst: IpAddress
    dport: int
    start_ns: int
    client: Half
    server: Half
    first_packet: int
    opener_id: int | None = None
    responder_id: int | None = None
    joined: bool = False
    syn: Segment | None = None
    syn_ack: Segment | None = None
    ack: Segment | None = None
    established_ns: int | None = None
    established_packet: int | None = None
    syns: int = 0
    answered_packet: int | None = None  # of the SYN/ACK, also where its options were cut off
    is_past_handshake: bool = False  # the opener has sent more than SYNs
    is_third_missing: bool = False  # what came in the place of the third packet shows that it was sent before
    cut_headers: int = 0
    is_opening_cut: bool = False  # its SYN or SYN/ACK is among those
    last_ns: int = 0
    last_packet: int = 0

    def half(self, side: Side) -> Half:
        """What that side sends."""
        return self.client if side is Side.CLIENT else self.server

    @property
    def refused_packet(self) -> int | None:
        """The RST that answered the SYN or the SYN/ACK's acknowledgement, before data flowed."""
        return self.half(self.opener.peer).rst_packet if self.syn_ack is None else None

    @property
    def closed(self) -> bool:
        """Reset by one side, or FIN from both."""
        halves = (self.client, self.server)
        return any(each.rst_packet for each in halves) or all(each.fin_packet for each in halves)

    def address(self, side: Side) -> tuple[IpAddress, int]:
        """Where that side's packets come from."""
        return (self.src, self.sport) if side is self.opener else (self.dst, self.dport)


@dataclass(slots=True)
class Connection:
    """An MPTCP connection, or a TCP connection that is none; `subflows[0]` is the first one seen."""

    id: int
    state: State
    is_whole_end: bool = False  # the capture has all interfaces of one end, by the word of whoever made it
    is_translated: bool = False  # packets were seen with more than one pair of addresses
    version: int | None = None  # of MPTCP, once an option has shown it
    packets: int = 0
    gaps: tuple[Gap, ...] = ()
    client: Stream = field(default_factory=lambda: Stream(Side.CLIENT))
    server: Stream = field(default_factory=lambda: Stream(Side.SERVER))
    subflows: list[Subflow] = field(default_factory=list)
    unknown_token: int | None = None  # of a join to a connection whose start is not in the capture
    fallback: Fallback | None = None
    announcements: Log[Announcement] = field(default_factory=Log)
    old_announcements: Log[Event] = field(default_factory=Log)  # ADD_ADDR in the form of version 0
    echoes: Log[Event] = field(default_factory=Log)
    removals: Log[Event] = field(default_factory=Log)
    priorities: Log[Event] = field(default_factory=Log)
    fails: Log[Event] = field(default_factory=Log)
    fastcloses: Log[Event] = field(default_factory=Log)
    resets: Log[Event] = field(default_factory=Log)
    reinjections: Log[Reinjection] = field(default_factory=Log)
    findings: Log[Finding] = field(default_factory=Log)
    first_dss: dict[Side, int] = field(default_factory=dict)  # packet of each side's first DSS
    first_data: dict[Side, Segment] = field(default_factory=dict)
    shared_key: int | None = None  # packet that uses a key another connection of the capture has
    key_peers: int = 0  # other connections of the capture whose keys are known

    def stream(self, side: Side) -> Stream:
        """What that side sends."""
        return self.client if side is Side.CLIENT else self.server

    def found(self, *kinds: str) -> list[Finding]:
        """The findings of these kinds."""
        return [each for each in self.findings if each.kind in kinds]

    @property
    def incomplete(self) -> bool:
        """Whether packets of the connection are known not to be in the capture; `gaps` says which."""
        return bool(self.gaps)

    def lacks(self, *kinds: Lack) -> Gap | None:
        """The first gap of one of these kinds, of any kind if none is named."""
        return next((each for each in self.gaps if not kinds or each.lack in kinds), None)


@dataclass(slots=True)
class Analysis:
    """All connections of a capture, in order of their first packet."""

    connections: list[Connection] = field(default_factory=list)
    segments: int = 0
    start_ns: int | None = None
    end_ns: int = 0
    copies: int = 0  # packets that the capture has again, as they were or with translated addresses
    disorder: int | None = None  # first packet that is earlier than those before it
    malformed: Log[tuple[int, str]] = field(default_factory=Log)  # packet, what

    @property
    def mptcp(self) -> list[Connection]:
        """Connections that asked for MPTCP or used it."""
        return [each for each in self.connections if each.state is not State.TCP]
