"""What a probe reports, as frozen dataclasses. Times are the host's CLOCK_MONOTONIC in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from mptcp_lab.probe.shapes import read_as, read_fields

TIMELINE = ("first", "last", "chunks", "max_gap", "gaps", "timeline")
IPPROTO_TCP = 6
IPPROTO_MPTCP = 262
TCP_ESTABLISHED = 1  # include/net/tcp_states.h


@dataclass(frozen=True)
class Address:
    """An address and a port."""

    address: str
    port: int

    @classmethod
    def from_answer(cls, pair: Any) -> Self:
        """Read ["198.18.1.1", 7000]."""
        return cls(*read_as(tuple[str, int], pair))


@dataclass(frozen=True)
class Failure:
    """The error of an operation that failed."""

    kind: str
    message: str
    errno: int | None


@dataclass(frozen=True)
class Clock:
    """A monotonic and a wall-clock reading of the same moment, to line times up with captures."""

    monotonic: float
    realtime: float
    spread: float

    def realtime_of(self, monotonic: float) -> float:
        """The wall-clock time (seconds since the epoch) of a monotonic one of the same host."""
        return self.realtime + (monotonic - self.monotonic)


@dataclass(frozen=True)
class Hello:
    """What a probe reports when it starts."""

    host: str
    kernel: str
    python: str
    pid: int
    uid: int
    systemd: bool
    faults: list[dict[str, Any]]
    clock: Clock


@dataclass(frozen=True)
class Capability:
    """Whether something works on a host, found by using it; ``reason`` is what kernel or tool said."""

    ok: bool
    errno: int | None
    reason: str


@dataclass(frozen=True)
class Subflow:
    """One subflow, which may be in the making. ``tcp`` is tcp_info, where the kernel has MPTCP_FULL_INFO."""

    local: str
    lport: int
    remote: str
    rport: int
    id: int | None
    tcp: Mapping[str, int] | None

    @property
    def established(self) -> bool:
        """Whether it is up; a kernel that does not tell the state (before 6.5) is believed."""
        return self.tcp is None or self.tcp.get("state") == TCP_ESTABLISHED


@dataclass(frozen=True)
class SocketFacts:
    """What the kernel says about a connection (include/uapi/linux/mptcp.h).

    ``protocol`` is SO_PROTOCOL (6 or 262). ``is_mptcp`` is None where the kernel cannot tell. ``info`` is
    mptcp_info, None where ``info_errno`` says why (EOPNOTSUPP: fallen back or plain TCP).
    """

    protocol: int
    is_mptcp: bool | None
    info: Mapping[str, int] | None
    info_errno: int | None
    full_info_errno: int | None
    subflows: tuple[Subflow, ...]
    tcp: Mapping[str, int] | None
    inode: int
    local: Address | None
    peer: Address | None
    at: float


@dataclass(frozen=True)
class Gap:
    """A pause between two chunks."""

    start: float
    seconds: float


@dataclass(frozen=True)
class Timeline:
    """When data passed: ``points`` are (time, total bytes), thinned if many; ``gaps`` are exact."""

    first: float | None
    last: float | None
    chunks: int
    max_gap: float
    gaps: tuple[Gap, ...]
    points: tuple[tuple[float, int], ...]

    @classmethod
    def from_answer(cls, document: Any) -> Self:
        """Read the document of a timeline, whose points are called "timeline"."""
        fields = {**read_as(dict, document)}
        fields["points"] = fields.pop("timeline", None)
        return read_fields(cls, fields)


@dataclass(frozen=True)
class Progress:
    """How far a transfer is: bytes so far, when the last ones passed, and when this was read."""

    nbytes: int
    last: float | None
    done: bool
    at: float


@dataclass(frozen=True)
class TransferResult:
    """A transfer that ended. ``end``: complete, eof, cancelled (the stream was closed) or error."""

    nbytes: int
    sha256: str
    first: float | None
    last: float | None
    max_gap: float
    timeline: Timeline
    end: str
    errno: int | None
    message: str
    clock: Clock

    @classmethod
    def from_answer(cls, document: Any) -> Self:
        """Read the document of a transfer that has ended."""
        fields = {**read_as(dict, document)}
        timeline = {name: fields.get(name) for name in TIMELINE}
        error = read_as(dict, {} if fields.pop("error", None) is None else document["error"])
        for name in ("done", "at", "chunks", "gaps", "timeline"):
            fields.pop(name, None)
        failed = {"errno": error.get("errno"), "message": error.get("message", "")}
        return read_fields(cls, {**fields, **failed, "timeline": timeline})


@dataclass(frozen=True)
class Counters:
    """MIB counters: ``counters["MPTcpExt", "MPJoinSynRx"]``; one that the kernel lacks reads 0."""

    groups: Mapping[str, Mapping[str, int]]

    def __getitem__(self, key: tuple[str, str]) -> int:
        return self.groups.get(key[0], {}).get(key[1], 0)

    def mptcp(self, name: str) -> int:
        """A counter of the MPTcpExt group."""
        return self["MPTcpExt", name]

    def delta(self, before: Counters) -> Counters:
        """What was counted since ``before``."""
        return Counters(
            {
                group: {name: value - before[group, name] for name, value in values.items()}
                for group, values in self.groups.items()
            }
        )

    def moved(self) -> dict[str, int]:
        """The counters that are not 0, as "Group.Name": for evidence and messages."""
        return {f"{g}.{n}": v for g, values in self.groups.items() for n, v in values.items() if v}


@dataclass(frozen=True)
class NicBytes:
    """Traffic of one network device since it exists."""

    rx_bytes: int
    rx_packets: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_dropped: int

    def delta(self, before: NicBytes) -> NicBytes:
        """Traffic since ``before``."""
        return NicBytes(**{name: value - getattr(before, name) for name, value in vars(self).items()})


@dataclass(frozen=True)
class Endpoint:
    """An MPTCP endpoint; ``device`` is "" where none is set."""

    id: int
    address: str
    port: int
    device: str
    flags: frozenset[str]


@dataclass(frozen=True)
class Limits:
    """MPTCP limits."""

    subflows: int
    add_addr_accepted: int


@dataclass(frozen=True)
class RunResult:
    """A command that ended; ``timed_out`` when it was killed for taking too long."""

    returncode: int
    stdout: str
    stderr: str
    timed_out: bool


@dataclass(frozen=True)
class OriginRecord:
    """What the origin service recorded about one connection.

    ``received`` and ``sent`` time the payload (greeting and PROXY header do not count). ``facts`` are those
    at its end. ``end``: None while open, eof, reset (on request), error (with ``error``) or bad-start.
    """

    number: int
    tag: str
    mode: str
    open: bool
    paused: bool
    listener: Address | None
    peer: Address | None
    local: Address | None
    protocol: int
    is_mptcp: bool | None
    proxy: Mapping[str, Any] | None
    opened: float
    closed: float | None
    end: str | None
    error: str | None
    bytes_received: int
    bytes_sent: int
    sha256_received: str
    sha256_sent: str
    received: Timeline
    sent: Timeline
    facts: SocketFacts | None

    @classmethod
    def from_answer(cls, document: Any) -> Self:
        """Read the origin's document of a connection; one that is open has not been closed."""
        return read_fields(cls, {"closed": None, **read_as(dict, document)})
