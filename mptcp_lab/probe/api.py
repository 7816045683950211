"""The probe as checks use it: typed operations on one host."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from mptcp_lab.probe.absent import Readings
from mptcp_lab.probe.client import ProbeClient, ProbeError
from mptcp_lab.probe.facts import (
    Capability,
    Clock,
    Counters,
    Endpoint,
    Limits,
    NicBytes,
    OriginRecord,
    RunResult,
    SocketFacts,
)
from mptcp_lab.probe.faults import Fault, apply
from mptcp_lab.probe.state import NetworkState
from mptcp_lab.probe.steering import Steering
from mptcp_lab.probe.streams import Listener, Opened, RunningBatch, Stream, connect
from mptcp_lab.probe.watching import Capture, EventWatch

MARGIN = 5.0
T = TypeVar("T")


class Origin:
    """The origin service of a host, asked through its probe."""

    def __init__(self, probe: ProbeClient, name: str) -> None:
        self._probe = probe
        self._name = name

    @property
    def _where(self) -> tuple[str, str]:
        return self._probe.host, self._probe.kernel

    def _ask(self, kind: type[T], ask: str, **args: Any) -> T:
        return self._probe.ask(kind, "origin", name=self._name, request={"ask": ask, **args})

    def counts(self) -> Mapping[str, Any]:
        """{"accepted", "refused", "open", "accepting"}; ``accepted`` is the latest number, too."""
        return self._ask(dict[str, int | bool], "counts")

    def connections(
        self, since: int = 0, tag: str | None = None, timeline: bool = True
    ) -> tuple[OriginRecord, ...]:
        """Connections numbered above ``since``, by tag if given, oldest first; points if ``timeline``."""
        kind = tuple[OriginRecord, ...]
        records = self._ask(kind, "connections", since=since, tag=tag, timeline=timeline)
        return tuple(record.seen_by(*self._where) for record in records)

    def facts(self, number: int) -> SocketFacts:
        """Live socket facts of a connection, or those at its end."""
        return self._ask(SocketFacts, "facts", number=number).seen_by(*self._where)

    def pause_reading(self, number: int | None = None, tag: str | None = None) -> int:
        """Stop reading: one connection, a tag, or else all present and future; returns how many are open."""
        return self._ask(int, "reading", paused=True, number=number, tag=tag)

    def resume_reading(self, number: int | None = None, tag: str | None = None) -> int:
        """Go on reading; as pause_reading."""
        return self._ask(int, "reading", paused=False, number=number, tag=tag)

    def reset(self, tag: str) -> int:
        """Close a tag's connections with RST; returns how many were open."""
        return self._ask(int, "reset", tag=tag)

    def pause_accepting(self) -> None:
        """Leave connections in the kernel's backlog."""
        self._ask(bool, "accepting", paused=True)

    def resume_accepting(self) -> None:
        """Accept again."""
        self._ask(bool, "accepting", paused=False)


class Probe(ProbeClient):
    """One host's probe. Calls raise ProbeError (it failed there) or HostVanished (within about 5 seconds)."""

    # --- sockets

    def listen(
        self,
        address: str,
        port: int,
        protocol: str = "mptcp",
        device: str | None = None,
        hold: bool = False,
        backlog: int = 1024,
    ) -> Listener:
        """Listen on one address (0 takes a free port). Connections are accepted at once unless ``hold``."""
        opened = self.start(
            "listen", address=address, port=port, protocol=protocol, device=device, hold=hold, backlog=backlog
        )
        return Listener(self, opened.read(Opened))

    def connect(
        self,
        address: str,
        port: int,
        protocol: str = "mptcp",
        source: str | None = None,
        device: str | None = None,
        within: float = 5.0,
    ) -> Stream:
        """Connect. Raises ConnectFailed with errno and seconds."""
        return connect(
            self, within, address=address, port=port, protocol=protocol, source=source, device=device
        )

    def many(
        self,
        address: str,
        port: int,
        message: bytes,
        expect: int,
        count: int,
        concurrent: int = 1,
        hold: bool = False,
        protocol: str = "mptcp",
        source: str | None = None,
        within: float = 30.0,
    ) -> RunningBatch:
        """Begin ``count`` short connections: each sends ``message``, takes ``expect`` bytes, and ends.

        ``concurrent`` of them at a time; with ``hold`` none ends before all have their answer.
        """
        pending = self.start(
            "many",
            address=address,
            port=port,
            message=base64.b64encode(message).decode(),
            expect=expect,
            count=count,
            concurrent=concurrent,
            hold=hold,
            protocol=protocol,
            source=source,
            timeout=within,
        )
        return RunningBatch(pending, within + MARGIN, self.host, self.kernel)

    # --- the host

    def clock(self) -> Clock:
        """The host's clocks now."""
        return self.ask(Clock, "clock")

    def capabilities(self) -> dict[str, Capability]:
        """What works on the host, found by use, once per probe; by name (docs/dev/probe.md lists them)."""
        return self.ask(dict[str, Capability], "capabilities", 30.0)

    def counters(self) -> Counters:
        """MIB counters now."""
        return Counters(self.ask(dict[str, dict[str, int]], "counters"), self.host, self.kernel)

    def nics(self) -> dict[str, NicBytes]:
        """Traffic per network device now."""
        return self.ask(dict[str, NicBytes], "nics")

    def endpoints(self) -> tuple[Endpoint, ...]:
        """MPTCP endpoints, by id."""
        return self.ask(tuple[Endpoint, ...], "endpoints")

    def limits(self) -> Limits:
        """MPTCP limits."""
        return self.ask(Limits, "limits")

    def sysctls(self) -> dict[str, str]:
        """The sysctls that decide about multipath, by dotted name; one that the kernel lacks is `Absent`."""
        found = self.ask(dict[str, str], "sysctls")
        return Readings(found, what="sysctl", host=self.host, kernel=self.kernel)

    def read(self, what: str) -> list[dict[str, Any]]:
        """A tool's JSON: addresses, routes4, routes6, rules4, rules6, neighbours, nft or qdiscs."""
        if what == "nft":
            return self.ask(dict[str, list[dict[str, Any]]], "read", what=what)["nftables"]
        return self.ask(list[dict[str, Any]], "read", what=what)

    def network_state(self) -> NetworkState:
        """All that a fault may change, without what changes by itself; compare with ``changes``."""
        return self.ask(dict[str, Any], "network_state")

    def run(self, argv: Sequence[str], timeout: float = 10.0, stdin: str = "") -> RunResult:
        """Run a command; it is killed with its children after ``timeout`` seconds."""
        started = self.start("run", argv=list(argv), timeout=timeout, stdin=stdin)
        return started.read(RunResult, timeout + MARGIN)

    def steering(self, stream: Stream) -> Steering:
        """The userspace path manager's hold on a connection of this host, by its token.

        Raises ProbeError when the connection is not MPTCP (any more).
        """
        info = stream.facts().info
        if info is None:
            raise ProbeError(
                self.host, "steering", {"kind": "refused", "message": f"{stream.name} is not MPTCP"}
            )
        return Steering(self, info["token"])

    # --- watching

    def watch_events(self) -> EventWatch:
        """Watch netlink events from now on."""
        return EventWatch(self)

    def capture(self, devices: Sequence[str], snaplen: int = 160) -> Capture:
        """Capture headers on these NICs from now on."""
        return Capture(self, list(devices), snaplen)

    def origin(self, name: str) -> Origin:
        """The origin service of that name on this host."""
        return Origin(self, name)

    # --- faults

    def fault(self, kind: str, ttl: float = 30.0, **params: Any) -> Fault:
        """Apply a fault that ends after ``ttl`` seconds at the latest, whatever happens to this run.

        docs/dev/probe.md lists kinds and parameters.

        Raises Unsupported by the capability's name, or ProbeError.
        """
        return apply(self, kind, ttl, params)

    def faults(self) -> list[dict[str, Any]]:
        """Faults on record on the host: kind, params, deadline, and the error if lifting one failed.

        An ``orphan`` is one whose probe is gone; its host lifts it at the deadline.
        """
        return self.ask(list[dict[str, Any]], "faults")
