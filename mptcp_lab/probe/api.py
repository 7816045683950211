"""The interface of the probe for checks: typed operations on one host."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from mptcp_lab.errors import Unsupported
from mptcp_lab.probe.absent import Readings
from mptcp_lab.probe.client import ProbeClient, ProbeError
from mptcp_lab.probe.endpoints import EndpointControl, NewEndpoint
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
from mptcp_lab.probe.streams import (
    Listener,
    Opened,
    RunningBatch,
    Stream,
    TriedOption,
    code_options,
    connect,
)
from mptcp_lab.probe.watching import Capture, EventWatch

MARGIN = 5.0
T = TypeVar("T")


class Origin:
    """The origin service of a host, controlled through the host's probe."""

    def __init__(self, probe: ProbeClient, name: str) -> None:
        self._probe = probe
        self._name = name

    @property
    def _where(self) -> tuple[str, str]:
        return self._probe.host, self._probe.kernel

    def _ask(self, kind: type[T], ask: str, **args: Any) -> T:
        return self._probe.ask(kind, "origin", name=self._name, request={"ask": ask, **args})

    def counts(self) -> Mapping[str, Any]:
        """Return the counts accepted, refused and open, and whether the origin is accepting.

        ``accepted`` is also the number of the latest connection.
        """
        return self._ask(dict[str, int | bool], "counts")

    def connections(
        self, since: int = 0, tag: str | None = None, timeline: bool = True
    ) -> tuple[OriginRecord, ...]:
        """Return the connections numbered above ``since``, with ``tag`` if given, oldest first.

        Their records contain timeline points only if ``timeline`` is true.
        """
        kind = tuple[OriginRecord, ...]
        records = self._ask(kind, "connections", since=since, tag=tag, timeline=timeline)
        return tuple(record.seen_by(*self._where) for record in records)

    def facts(self, number: int) -> SocketFacts:
        """Return the current socket facts of a connection, or the last ones if it has ended."""
        return self._ask(SocketFacts, "facts", number=number).seen_by(*self._where)

    def pause_reading(self, number: int | None = None, tag: str | None = None) -> int:
        """Stop reading from a connection, from those with a tag, or from all, including future ones.

        Returns how many of them are open.
        """
        return self._ask(int, "reading", paused=True, number=number, tag=tag)

    def resume_reading(self, number: int | None = None, tag: str | None = None) -> int:
        """Resume reading, with the arguments and the result of `pause_reading`."""
        return self._ask(int, "reading", paused=False, number=number, tag=tag)

    def reset(self, tag: str) -> int:
        """Close the connections with a tag by RST, and return how many were open."""
        return self._ask(int, "reset", tag=tag)

    def stop_sending(self, tag: str) -> int:
        """End what the origin sends on the connections with a tag, and return how many were open.

        It applies to the modes ``source`` and ``duplex``. The octets that wait in the kernel still go out.
        """
        return self._ask(int, "stop_sending", tag=tag)

    def pause_accepting(self) -> None:
        """Stop accepting: new connections wait in the kernel's backlog."""
        self._ask(bool, "accepting", paused=True)

    def resume_accepting(self) -> None:
        """Resume accepting."""
        self._ask(bool, "accepting", paused=False)


class Probe(ProbeClient):
    """The probe of one host.

    Every call raises `ProbeError` if the operation fails on the host, and `HostVanished` within about 5
    seconds if the host stops answering.
    """

    # --- sockets

    def listen(
        self,
        address: str,
        port: int,
        protocol: str = "mptcp",
        device: str | None = None,
        hold: bool = False,
        backlog: int = 1024,
        shape: str = "",
        transparent: bool = False,
    ) -> Listener:
        """Listen on an address and port (0: any free port); with ``hold``, do not accept before `release`.

        ``shape`` asks for a socket on all addresses: "wildcard" with address 0.0.0.0, "dual-stack" or
        "ipv6-only" with ``::``. Connections to the host's management address are reset. A ``transparent``
        socket accepts connections to other hosts' addresses too, which a fault "tproxy" leads to it.
        """
        opened = self.start(
            "listen",
            address=address,
            port=port,
            protocol=protocol,
            device=device,
            hold=hold,
            backlog=backlog,
            shape=shape,
            transparent=transparent,
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
        """Connect, at most ``within`` seconds; raise `ConnectFailed`, with errno and seconds, on failure."""
        return connect(
            self, within, address=address, port=port, protocol=protocol, source=source, device=device
        )

    def try_options(
        self, protocol: str, address: str, options: Sequence[tuple[int, int, bytes]]
    ) -> tuple[TriedOption, ...]:
        """Set and read back options of a new socket that is not connected; see `Stream.try_options`.

        The socket is of the family of ``address``.
        """
        coded = code_options(options)
        kind = tuple[TriedOption, ...]
        return self.ask(kind, "try_new_options", protocol=protocol, address=address, options=coded)

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
        """Start ``count`` short connections: each sends ``message``, reads ``expect`` bytes, and closes.

        At most ``concurrent`` are open at a time; with ``hold``, none closes before all have their answer.
        ``within`` is the timeout of the whole batch in seconds.
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
        """Return the current readings of the host's clocks."""
        return self.ask(Clock, "clock")

    def capabilities(self) -> dict[str, Capability]:
        """Return the host's capabilities by name (docs/dev/probe.md), each determined by trying it.

        The result is read once per probe.
        """
        return self.ask(dict[str, Capability], "capabilities", 30.0)

    def counters(self) -> Counters:
        """Return the current MIB counters."""
        return Counters(self.ask(dict[str, dict[str, int]], "counters"), self.host, self.kernel)

    def nics(self) -> dict[str, NicBytes]:
        """Return the current traffic counts by network device."""
        return self.ask(dict[str, NicBytes], "nics")

    def endpoints(self) -> tuple[Endpoint, ...]:
        """Return the MPTCP endpoints in the order of their ids."""
        return self.ask(tuple[Endpoint, ...], "endpoints")

    def limits(self) -> Limits:
        """Return the MPTCP limits."""
        return self.ask(Limits, "limits")

    def sysctls(self) -> dict[str, str]:
        """Return the sysctls that affect multipath, by dotted name; one that the kernel lacks is `Absent`."""
        found = self.ask(dict[str, str], "sysctls")
        return Readings(found, what="sysctl", host=self.host, kernel=self.kernel)

    def read(self, what: str) -> list[dict[str, Any]]:
        """Return a tool's JSON: addresses, routes4, routes6, rules4, rules6, neighbours, nft or qdiscs."""
        if what == "nft":
            return self.ask(dict[str, list[dict[str, Any]]], "read", what=what)["nftables"]
        return self.ask(list[dict[str, Any]], "read", what=what)

    def network_state(self) -> NetworkState:
        """Return all state that a fault may change and nothing else changes; compare it with `changes`."""
        return self.ask(dict[str, Any], "network_state")

    def kernel_log(self) -> list[str]:
        """Return the lines of the host's kernel log since the last call; the first call returns none.

        Raises:
            ProbeError: the host has no kernel log that can be read, as a container.
        """
        return self.ask(list[str], "kernel_log")

    def run(self, argv: Sequence[str], timeout: float = 10.0, stdin: str = "") -> RunResult:
        """Run a command on the host; after ``timeout`` seconds, it is killed with its children."""
        started = self.start("run", argv=list(argv), timeout=timeout, stdin=stdin)
        return started.read(RunResult, timeout + MARGIN)

    def steering(self, stream: Stream) -> Steering:
        """Return the userspace path manager's interface to a connection of this host.

        Raises:
            ProbeError: the connection is not, or no longer, MPTCP.
        """
        info = stream.facts().info
        if info is None:
            raise ProbeError(
                self.host, "steering", {"kind": "refused", "message": f"{stream.name} is not MPTCP"}
            )
        return Steering(self, info["token"])

    # --- watching

    def watch_events(self) -> EventWatch:
        """Start to watch netlink events."""
        return EventWatch(self)

    @contextmanager
    def socket_program(self) -> Iterator[None]:
        """Let an eBPF program give the probe MPTCP sockets where it asks for TCP ones, in the block.

        Raises:
            Unsupported: the host's kernel lacks what the program needs, or refuses it.
        """
        try:
            name = self.ask(str, "socket_program")
        except ProbeError as error:
            if error.kind != "unsupported":
                raise
            raise Unsupported(str(error.more.get("capability")), error.what, self.host) from None
        try:
            yield
        finally:
            self.order("close", item=name)

    def capture(self, devices: Sequence[str], snaplen: int = 160, ports: Sequence[int] = ()) -> Capture:
        """Capture the first ``snaplen`` bytes of packets on these NICs: of all, or of those of TCP ports."""
        return Capture(self, list(devices), snaplen, ports)

    def origin(self, name: str) -> Origin:
        """Return the origin service with a name on this host."""
        return Origin(self, name)

    # --- faults

    def fault(self, kind: str, ttl: float = 30.0, **params: Any) -> Fault:
        """Apply a fault; the host lifts it after ``ttl`` seconds at the latest, even if this run dies.

        docs/dev/probe.md lists the kinds and their parameters.

        Raises:
            Unsupported: the host lacks a capability that the fault needs.
            NoLease: this run does not hold the host's lease.
            ProbeError: the host could not apply the fault.
        """
        return apply(self, kind, ttl, params)

    def replace_endpoints(self, *endpoints: NewEndpoint, ttl: float = 60.0) -> EndpointControl:
        """Replace all endpoints by these, in this order; the end of the block restores the original ones.

        Raises `ProbeError` with the kernel's errno if the kernel refuses an endpoint.
        """
        wanted = [endpoint.document() for endpoint in endpoints]
        return EndpointControl(self, self.fault("endpoints", ttl, endpoints=wanted))

    def faults(self) -> list[dict[str, Any]]:
        """Return the faults on the host: kind, params, deadline, and the error if lifting one failed.

        An ``orphan`` is a fault whose probe has ended; the host lifts it at its deadline.
        """
        return self.ask(list[dict[str, Any]], "faults")
