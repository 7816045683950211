"""What a probe reports, as frozen dataclasses. Times are the host's CLOCK_MONOTONIC in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from mptcp_lab.probe.absent import Absent, Readings

IPPROTO_TCP = 6
IPPROTO_MPTCP = 262
TCP_ESTABLISHED = 1  # include/net/tcp_states.h


@dataclass(frozen=True)
class Address:
    """An address and a port."""

    address: str
    port: int


def parse_address(pair: Any) -> Address | None:
    """["198.18.1.1", 7000] as an Address."""
    return None if pair is None else Address(str(pair[0]), int(pair[1]))


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
class Capability:
    """Whether something works on a host, found by using it; ``reason`` is what kernel or tool said."""

    ok: bool
    errno: int | None
    reason: str


@dataclass(frozen=True)
class Subflow:
    """One subflow, which may be in the making.

    ``tcp`` is tcp_info, by MPTCP_FULL_INFO (6.5) or MPTCP_TCPINFO (5.16); where neither gave it, each of
    its fields is an `Absent`.
    """

    local: str
    lport: int
    remote: str
    rport: int
    id: int | None
    tcp: Mapping[str, int]

    @property
    def established(self) -> bool:
        """Whether it is up; `Unsupported` where the kernel does not report the state."""
        return bool(self.tcp["state"] == TCP_ESTABLISHED)


@dataclass(frozen=True)
class SocketFacts:
    """What the kernel says about a connection (include/uapi/linux/mptcp.h).

    ``protocol`` is SO_PROTOCOL (6 or 262). ``info`` is mptcp_info, None where ``info_errno`` says why
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
    def parse(cls, document: Mapping[str, Any], host: str = "", kernel: str = "") -> SocketFacts:
        """Build from the probe's document; host and kernel are for messages about what is absent."""
        fields = dict(document)
        where = {"host": host, "kernel": kernel}
        fields["is_mptcp"] = known_is_mptcp(document["is_mptcp"], **where)
        fields["subflows"] = (
            Absent("MPTCP_SUBFLOW_ADDRS", **where)
            if document["subflows"] is None
            else tuple(_subflow(subflow, where) for subflow in document["subflows"])
        )
        for name, what in (("info", "mptcp_info"), ("tcp", "tcp_info")):
            if document[name] is not None:
                fields[name] = Readings(document[name], what=what, **where)
        fields["local"] = parse_address(document["local"])
        fields["peer"] = parse_address(document["peer"])
        return cls(**fields)


def _subflow(document: Mapping[str, Any], where: Mapping[str, str]) -> Subflow:
    what = "MPTCP_FULL_INFO or MPTCP_TCPINFO:" if document["tcp"] is None else "tcp_info"
    return Subflow(**{**document, "tcp": Readings(document["tcp"] or {}, what=what, **where)})


def known_is_mptcp(reading: bool | None, host: str = "", kernel: str = "") -> bool:
    """Return whether a connection is MPTCP; an `Absent` where the kernel cannot tell."""
    if reading is None:
        return cast(bool, Absent("TCP_IS_MPTCP or MPTCP_INFO", host, kernel))
    return reading


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
    def parse(cls, document: Mapping[str, Any]) -> Timeline:
        """From the probe's document."""
        return cls(
            first=document["first"],
            last=document["last"],
            chunks=document["chunks"],
            max_gap=document["max_gap"],
            gaps=tuple(Gap(**gap) for gap in document["gaps"]),
            points=tuple((float(when), int(total)) for when, total in document["timeline"]),
        )


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
    def parse(cls, document: Mapping[str, Any]) -> TransferResult:
        """From the probe's document."""
        error = document["error"] or {}
        return cls(
            nbytes=document["nbytes"],
            sha256=document["sha256"],
            first=document["first"],
            last=document["last"],
            max_gap=document["max_gap"],
            timeline=Timeline.parse(document),
            end=document["end"],
            errno=error.get("errno"),
            message=error.get("message", ""),
            clock=Clock(**document["clock"]),
        )


def _since(values: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
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
        """Whether the kernel has that counter."""
        return name in self.groups.get(group, {})

    def mptcp(self, name: str) -> int:
        """A counter of the MPTcpExt group."""
        return self["MPTcpExt", name]

    def delta(self, before: Counters) -> Counters:
        """What was counted since ``before``; a counter that has come up since began at 0."""
        return replace(
            self,
            groups={
                group: _since(values, before.groups.get(group, {})) for group, values in self.groups.items()
            },
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
    def parse(cls, document: Mapping[str, Any], host: str = "", kernel: str = "") -> OriginRecord:
        """Build from the origin's document."""
        fields = dict(document)
        fields["is_mptcp"] = known_is_mptcp(document["is_mptcp"], host, kernel)
        fields.setdefault("closed", None)
        for name in ("listener", "peer", "local"):
            fields[name] = parse_address(document[name])
        for name in ("received", "sent"):
            fields[name] = Timeline.parse(document[name])
        facts = document["facts"]
        fields["facts"] = None if facts is None else SocketFacts.parse(facts, host, kernel)
        return cls(**fields)
