"""The reports of a probe as frozen dataclasses. Times are the host's CLOCK_MONOTONIC in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar, cast

from mptcp_lab.probe.absent import Absent, Readings, locate
from mptcp_lab.probe.shapes import read_as, read_fields

T = TypeVar("T")
TIMELINE = ("first", "last", "chunks", "max_gap", "gaps", "timeline")
#: The socket options that show whether a connection is MPTCP, for messages if a kernel has neither.
IS_MPTCP = "TCP_IS_MPTCP or MPTCP_INFO"
IPPROTO_TCP = 6
IPPROTO_MPTCP = 262
TCP_ESTABLISHED, TCP_CLOSE = 1, 7  # include/net/tcp_states.h


def read_lacking(kind: type[T], document: Any, lackable: Mapping[str, str]) -> T:
    """Return a dataclass as `read_fields` does, with an `Absent` for each field that the kernel lacks.

    ``lackable`` maps fields that may be null to the names of the kernel's facilities that provide them.
    """
    fields = {**read_as(dict, document)}
    absent = {name: Absent(what) for name, what in lackable.items() if fields.get(name, 0) is None}
    return read_fields(kind, fields, given=absent)


@dataclass(frozen=True)
class Address:
    """An address and a port."""

    address: str
    port: int

    @classmethod
    def from_answer(cls, pair: Any) -> Self:
        """Parse a pair such as ["198.18.1.1", 7000]."""
        return cls(*read_as(tuple[str, int], pair))


@dataclass(frozen=True)
class Failure:
    """The error of an operation that failed."""

    kind: str
    message: str
    errno: int | None


@dataclass(frozen=True)
class Clock:
    """A monotonic and a wall-clock reading of the same moment, to relate times to captures."""

    monotonic: float
    realtime: float
    spread: float

    def realtime_of(self, monotonic: float) -> float:
        """Convert a monotonic time of the same host to wall-clock time, in seconds since the epoch."""
        return self.realtime + (monotonic - self.monotonic)


@dataclass(frozen=True)
class Hello:
    """The greeting of a probe."""

    host: str
    kernel: str
    build: str
    command_line: str
    architecture: str
    python: str
    pid: int
    uid: int
    systemd: bool
    faults: list[dict[str, Any]]
    clock: Clock


@dataclass(frozen=True)
class Capability:
    """A feature of a host, determined by trying it; ``reason`` is the message of the kernel or the tool."""

    ok: bool
    errno: int | None
    reason: str


@dataclass(frozen=True)
class Subflow:
    """One subflow, which may not be established yet.

    ``tcp`` is tcp_info from MPTCP_FULL_INFO (Linux 6.5) or MPTCP_TCPINFO (5.16); if the kernel has neither,
    each of its fields is an `Absent`.
    """

    local: str
    lport: int
    remote: str
    rport: int
    id: int | None
    tcp: Mapping[str, int]

    @classmethod
    def from_answer(cls, document: Any) -> Self:
        """Parse the probe's document of a subflow."""
        fields = {**read_as(dict, document)}
        what = "tcp_info"
        if "tcp" in fields and fields["tcp"] is None:
            fields["tcp"], what = {}, "MPTCP_FULL_INFO or MPTCP_TCPINFO:"
        subflow = read_fields(cls, fields)
        return replace(subflow, tcp=Readings(subflow.tcp, what=what))

    def seen_by(self, host: str, kernel: str) -> Self:
        """Return the same subflow with host and kernel added to the messages about absent readings."""
        return replace(self, tcp=locate(self.tcp, host, kernel))

    @property
    def is_established(self) -> bool:
        """Return whether it is established; raise `Unsupported` if the kernel does not report the state."""
        return bool(self.tcp["state"] == TCP_ESTABLISHED)


@dataclass(frozen=True)
class SocketFacts:
    """The kernel's report about a connection (include/uapi/linux/mptcp.h).

    ``protocol`` is SO_PROTOCOL (6 or 262). ``info`` is mptcp_info, or None with the reason in ``info_errno``
    (EOPNOTSUPP: fallen back or plain TCP). ``is_mptcp``, ``subflows`` and fields of ``info`` that the kernel
    does not report are `Absent`: using them raises `Unsupported`.
    """

    protocol: int
    is_mptcp: bool
    info: Mapping[str, int] | None
    info_errno: int | None
    full_info_errno: int | None
    subflows: tuple[Subflow, ...]
    tcp: Mapping[str, int] | None
    inode: int
    local: Address | None
    peer: Address | None
    at: float

    @classmethod
    def from_answer(cls, document: Any) -> Self:
        """Parse the probe's document; values that the kernel does not report become `Absent`."""
        facts = read_lacking(cls, document, {"is_mptcp": IS_MPTCP, "subflows": "MPTCP_SUBFLOW_ADDRS"})
        return replace(
            facts,
            info=None if facts.info is None else Readings(facts.info, what="mptcp_info"),
            tcp=None if facts.tcp is None else Readings(facts.tcp, what="tcp_info"),
        )

    def seen_by(self, host: str, kernel: str) -> Self:
        """Return the same facts with host and kernel added to the messages about absent readings."""
        subflows = locate(self.subflows, host, kernel)
        return replace(
            self,
            is_mptcp=locate(self.is_mptcp, host, kernel),
            subflows=subflows
            if isinstance(subflows, Absent)
            else tuple(each.seen_by(host, kernel) for each in subflows),
            info=locate(self.info, host, kernel),
            tcp=locate(self.tcp, host, kernel),
        )


@dataclass(frozen=True)
class Gap:
    """A pause between two chunks."""

    start: float
    seconds: float


@dataclass(frozen=True)
class Timeline:
    """The times of data: ``points`` are (time, total bytes), thinned if many; ``gaps`` are exact."""

    first: float | None
    last: float | None
    chunks: int
    max_gap: float
    gaps: tuple[Gap, ...]
    points: tuple[tuple[float, int], ...]

    @classmethod
    def from_answer(cls, document: Any) -> Self:
        """Parse the document of a timeline, whose points have the key "timeline"."""
        fields = {**read_as(dict, document)}
        fields["points"] = fields.pop("timeline", None)
        return read_fields(cls, fields)


@dataclass(frozen=True)
class Progress:
    """The progress of a transfer: bytes so far, the time of the last ones, and the time of this reading."""

    nbytes: int
    last: float | None
    done: bool
    at: float


@dataclass(frozen=True)
class TransferResult:
    """A transfer that ended; ``end`` is complete, eof, cancelled (the stream was closed) or error."""

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
        """Parse the document of a transfer that has ended."""
        fields = {**read_as(dict, document)}
        timeline = {name: fields.get(name) for name in TIMELINE}
        error = read_as(dict, {} if fields.pop("error", None) is None else document["error"])
        for name in ("done", "at", "chunks", "gaps", "timeline"):
            fields.pop(name, None)
        failed = {"errno": error.get("errno"), "message": error.get("message", "")}
        return read_fields(cls, {**fields, **failed, "timeline": timeline})


def _subtract(values: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    return {name: value - before.get(name, 0) for name, value in values.items()}


@dataclass(frozen=True)
class Counters:
    """MIB counters: ``counters["MPTcpExt", "MPJoinSynRx"]``; one that the kernel lacks is an `Absent`."""

    groups: Mapping[str, Mapping[str, int]]
    host: str = ""
    kernel: str = ""

    def __getitem__(self, key: tuple[str, str]) -> int:
        group, name = key
        if not self.has(name, group):
            return cast(int, Absent(f"counter {group}.{name}", self.host, self.kernel))
        return self.groups[group][name]

    def has(self, name: str, group: str = "MPTcpExt") -> bool:
        """Return whether the kernel has a counter."""
        return name in self.groups.get(group, {})

    def mptcp(self, name: str) -> int:
        """Return a counter of the MPTcpExt group."""
        return self["MPTcpExt", name]

    def delta(self, before: Counters) -> Counters:
        """Return the increase since ``before``; a counter that is missing there counts from 0."""
        return replace(
            self,
            groups={
                group: _subtract(values, before.groups.get(group, {}))
                for group, values in self.groups.items()
            },
        )

    def changes(self) -> dict[str, int]:
        """Return the counters that are not 0, with keys "Group.Name", for evidence and messages."""
        return {f"{g}.{n}": v for g, values in self.groups.items() for n, v in values.items() if v}


@dataclass(frozen=True)
class NicBytes:
    """The traffic of one network device since it was created."""

    rx_bytes: int
    rx_packets: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_dropped: int

    def delta(self, before: NicBytes) -> NicBytes:
        """Return the traffic since ``before``."""
        return NicBytes(**{name: value - getattr(before, name) for name, value in vars(self).items()})


@dataclass(frozen=True)
class Endpoint:
    """An MPTCP endpoint; ``device`` is "" if none is set."""

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
    """The result of a command; ``timed_out`` is true if it was killed at its timeout."""

    returncode: int
    stdout: str
    stderr: str
    timed_out: bool


@dataclass(frozen=True)
class OriginRecord:
    """The origin service's record of one connection.

    ``received`` and ``sent`` are timelines of the payload, without greeting and PROXY header. ``facts`` are
    the socket facts at its end. ``end`` is None while it is open, else eof, reset (on request), error (with
    ``error``) or bad-start.
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
    is_mptcp: bool
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
        """Parse the origin's document of a connection; an open connection has no closing time."""
        return read_lacking(cls, {"closed": None, **read_as(dict, document)}, {"is_mptcp": IS_MPTCP})

    def seen_by(self, host: str, kernel: str) -> Self:
        """Return the same record with host and kernel added to the messages about absent readings."""
        facts = None if self.facts is None else self.facts.seen_by(host, kernel)
        return replace(self, is_mptcp=locate(self.is_mptcp, host, kernel), facts=facts)
