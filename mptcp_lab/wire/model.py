"""Data model of an analysed capture: `analyse` fills it, and the rows read it.

An `ssn` is a subflow sequence number relative to the SYN, which is 0; data starts at 1. DSNs have the full
64 bits. A packet is identified by its number in the capture, counted from 1.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, TypeVar

from mptcp_lab.wire.options.addresses import AddAddr
from mptcp_lab.wire.options.base import MptcpOption
from mptcp_lab.wire.packet import IpAddress, Segment
from mptcp_lab.wire.ranges import RangeSet

#: The most entries that a Log keeps, so that memory does not grow with the length of the capture.
KEPT = 200

T = TypeVar("T")


class Log(Generic[T]):
    """The first KEPT entries of something that may happen often, and how often it happened (`total`)."""

    __slots__ = ("_kept", "total")

    def __init__(self) -> None:
        self._kept: list[T] = []
        self.total = 0

    def add(self, entry: T) -> None:
        """Count an entry, and keep it if fewer than KEPT entries are kept."""
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
    """An end of a connection: the client sent the first SYN, the server answered it."""

    CLIENT = "client"
    SERVER = "server"

    @property
    def peer(self) -> Side:
        """Return the other end."""
        return Side.SERVER if self is Side.CLIENT else Side.CLIENT


class State(Enum):
    """The state of a connection at the end of the capture.

    OPENING: a SYN with MPTCP was sent, and the handshake is not complete. PARTIAL: MPTCP was seen, but the
    capture lacks the start of the connection.
    """

    MPTCP = "mptcp"
    FALLBACK = "fallback"
    TCP = "tcp"
    OPENING = "opening"
    PARTIAL = "partial"


class Lack(Enum):
    """A kind of packets that were sent and are not in the capture."""

    START = "start"
    DIRECTION = "direction"
    HANDSHAKE = "handshake"
    OCTETS = "octets"
    OPTIONS = "options"
    HEADERS = "headers"
    PATH = "path"


@dataclass(frozen=True, slots=True)
class Gap:
    """Packets that were sent and not captured: their kind, a sentence, and the packet that shows the gap."""

    lack: Lack
    text: str
    packet: int


@dataclass(frozen=True, slots=True)
class Event:
    """An MPTCP option that reports an event: which side sent it, on which subflow and when."""

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
    connection_packets: int  # packets of the connection up to here
    peer_packets: int  # packets of the peer on this subflow up to here


@dataclass(frozen=True, slots=True)
class Finding:
    """A protocol error in the packets; module `mptcp_lab.wire.analyse` lists the values of `kind`."""

    kind: str
    packet: int
    side: Side
    detail: str


@dataclass(frozen=True, slots=True)
class Reinjection:
    """Data that is mapped a second time; `of_packet` on `of_subflow` carried it before, if that is known."""

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
    """When and why a connection fell back to plain TCP."""

    packet: int
    time_ns: int
    reason: str


@dataclass(frozen=True, slots=True)
class Sent:
    """A mapping that no DATA_ACK covers yet; `octets` is its DSN's length on the wire, 0 in MP_CAPABLE."""

    start: int
    end: int
    subflow: int
    packet: int
    octets: int


@dataclass(slots=True)
class Stream:
    """The data that one side sends over all subflows, and the peer's acknowledgements of it."""

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
    reach: int | None = None  # like `edge`, but a duplicate acknowledgement does not shrink a window
    scale_unknown: bool = False  # a window came on a subflow whose SYNs are not in the capture
    mappings: int = 0
    checksummed: int = 0
    first_checksummed: int | None = None
    first_bare: int | None = None  # first packet with a mapping and no checksum
    reinjected: int = 0  # octets
    data_fin: int | None = None  # DSN of the DATA_FIN
    data_fin_packet: int | None = None
    data_fin_acked_packet: int | None = None
    early_fin_ack: int | None = None  # packet that acknowledged a DATA_FIN although data before it is missing
    data_acks: int = 0
    data_acks_short: int = 0  # DATA_ACKs of 4 octets
    unacked: deque[Sent] = field(default_factory=deque)


@dataclass(slots=True)
class MappedRange:
    """A range of subflow sequence numbers with one constant `delta` = DSN - subflow sequence number."""

    start: int
    end: int
    delta: int
    packet: int


@dataclass(slots=True)
class Half:
    """One direction of a subflow: the packets that `side` sends."""

    side: Side
    isn: int | None = None
    synced: bool = False  # the ISN is known, not guessed
    next_ssn: int = 0
    acked: int = 0
    window_scale: int = 0
    window: int = 0  # current window, not scaled; TCP's rules decide which segments change it
    window_seq: int = -1  # this side's sequence number when `window` was last updated
    seen: RangeSet = field(default_factory=RangeSet)
    payload: int = 0  # octets, each counted once
    retransmitted: int = 0  # octets
    resending: bool = False  # the last packet with data was a retransmission
    new_data: int = 0  # octets of new data (not reinjected) mapped here
    fin_packet: int | None = None
    rst_packet: int | None = None
    mapped: RangeSet = field(default_factory=RangeSet)  # octets of the subflow that have a mapping
    ranges: deque[MappedRange] = field(default_factory=deque)
    unmapped: list[tuple[int, int, int]] = field(default_factory=list)  # start, end, packet
    data_ack: int | None = None
    packets: int = 0
    missing_packet: int | None = None  # packet in which the peer acknowledged octets that were not captured
    backup: bool = False  # this side asks the other not to use the subflow
    mptcp_packets: int = 0
    syn_data: int = 0  # octets of SYN data that the SYN/ACK acknowledged (TCP Fast Open): not mapped
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
    answered_packet: int | None = None  # the SYN/ACK, also if its options were cut off
    is_past_handshake: bool = False  # the opener has sent more than SYNs
    is_third_missing: bool = False  # the third packet was sent, as a later one shows, and not captured
    cut_headers: int = 0  # packets whose TCP options were cut off by the snap length
    is_opening_cut: bool = False  # the SYN or SYN/ACK is one of them
    last_ns: int = 0
    last_packet: int = 0

    def half(self, side: Side) -> Half:
        """Return the direction in which that side sends."""
        return self.client if side is Side.CLIENT else self.server

    @property
    def refused_packet(self) -> int | None:
        """Return the packet with the responder's RST if the capture has no SYN/ACK of the subflow."""
        return self.half(self.opener.peer).rst_packet if self.syn_ack is None else None

    @property
    def is_closed(self) -> bool:
        """Return whether one side has sent an RST, or both have sent a FIN."""
        halves = (self.client, self.server)
        return any(each.rst_packet for each in halves) or all(each.fin_packet for each in halves)

    def address(self, side: Side) -> tuple[IpAddress, int]:
        """Return the address and port that side sends from."""
        return (self.src, self.sport) if side is self.opener else (self.dst, self.dport)


@dataclass(slots=True)
class Connection:
    """An MPTCP connection or a plain TCP connection; `subflows[0]` is the first subflow seen."""

    id: int
    state: State
    is_whole_end: bool = False  # the caller states that the capture has all interfaces of one end
    is_translated: bool = False  # packets were seen with more than one pair of addresses
    version: int | None = None  # MPTCP version, once an option has shown it
    packets: int = 0
    gaps: tuple[Gap, ...] = ()
    client: Stream = field(default_factory=lambda: Stream(Side.CLIENT))
    server: Stream = field(default_factory=lambda: Stream(Side.SERVER))
    subflows: list[Subflow] = field(default_factory=list)
    unknown_token: int | None = None  # token of a join to a connection whose start is not captured
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
    shared_key: int | None = None  # packet with a key that another connection of the capture uses too
    key_peers: int = 0  # other connections of the capture whose keys are known

    def stream(self, side: Side) -> Stream:
        """Return the data stream that that side sends."""
        return self.client if side is Side.CLIENT else self.server

    def findings_of(self, *kinds: str) -> list[Finding]:
        """Return the findings of these kinds."""
        return [each for each in self.findings if each.kind in kinds]

    @property
    def incomplete(self) -> bool:
        """Return whether packets of the connection are known to be missing; `gaps` lists them."""
        return bool(self.gaps)

    def lacks(self, *kinds: Lack) -> Gap | None:
        """Return the first gap of one of these kinds, or of any kind if none is given; else None."""
        return next((each for each in self.gaps if not kinds or each.lack in kinds), None)


@dataclass(slots=True)
class Analysis:
    """All connections of a capture, in order of their first packet."""

    connections: list[Connection] = field(default_factory=list)
    segments: int = 0
    start_ns: int | None = None
    end_ns: int = 0
    copies: int = 0  # packets that are in the capture a second time, unchanged or with translated addresses
    disorder: int | None = None  # first packet that is earlier than those before it
    malformed: Log[tuple[int, str]] = field(default_factory=Log)  # packet and reason

    @property
    def mptcp(self) -> list[Connection]:
        """Return the connections that offered or used MPTCP."""
        return [each for each in self.connections if each.state is not State.TCP]
