"""Send streams from a client to an origin, and collect what both ends report about them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace

from mptcp_lab.inventory.model import Service
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import (
    IPPROTO_MPTCP,
    Counters,
    NeverHappened,
    Origin,
    OriginRecord,
    ProbeError,
    Stream,
    Transfer,
    TransferFailed,
    TransferResult,
    eventually,
)
from mptcp_lab.suite.matrix import Matrix
from mptcp_lab.suite.sockets import AddressPair, TcpSocket, at_both_ends, parse_sockets, ss_command
from mptcp_lab.suite.stuck import describe_stuck

#: Larger than any transfer: the stream ends only when `Flow.end` is called.
ENDLESS = 1 << 50


@dataclass(frozen=True)
class Ended:
    """A stream that has ended: what the client sent, and what the origin received."""

    sent: TransferResult
    got: OriginRecord

    @property
    def intact(self) -> bool:
        """Return whether every byte arrived once and in order, by length and SHA-256."""
        return (self.sent.nbytes, self.sent.sha256) == (self.got.bytes_received, self.got.sha256_received)

    @property
    def difference(self) -> str:
        """Return how sent and received data differ, for the message of a check whose stream was damaged."""
        if self.sent.nbytes == self.got.bytes_received:
            return f"{self.sent.nbytes} octets were sent and as many arrived, but not the same ones"
        return f"{self.sent.nbytes} octets were sent, {self.got.bytes_received} arrived"

    @property
    def goodput(self) -> float:
        """Return the goodput in Mbit/s from the first to the last byte at the origin; fail without any."""
        first, last = self.got.received.first, self.got.received.last
        assert first is not None and last is not None, "no data arrived at the origin: no goodput"
        return 8e-6 * self.got.bytes_received / (last - first)


def greeting(mode: str, tag: str, **options: object) -> bytes:
    """Return the first line of a connection, which asks an origin for a mode under a tag."""
    words = [f"{key}={value}" for key, value in options.items()]
    return " ".join(["MPTCPLAB/1", mode, tag, *words]).encode() + b"\n"


@dataclass(frozen=True)
class FarEnd:
    """The host at which a client's subflows end, and the TCP port there.

    ``seen_as`` returns the address that this host sees for one of the client's pairs, where addresses are
    translated on the way (by a forwarder); None where they are not.
    """

    machine: Machine
    port: int
    seen_as: Callable[[AddressPair], str] | None = None

    def sockets(self) -> tuple[TcpSocket, ...]:
        """Return the TCP sockets of this port, including subflows whose handshake is not complete."""
        return parse_sockets(self.machine.probe.run(ss_command("sport", self.port)).stdout)


@dataclass(frozen=True)
class Opening:
    """How a connection was opened: by which client, and to which peer.

    ``before`` has the counters of client and peer from before it was opened. ``again`` opens another
    connection like it.
    """

    client: Machine
    far_end: FarEnd
    before: tuple[Counters, Counters]
    again: Callable[[], AbstractContextManager[Flow]]


class Flow:
    """One connection from a client to an origin service, which identifies it by its tag."""

    def __init__(self, stream: Stream, origin: Machine, service: Service, opening: Opening) -> None:
        self.stream = stream
        self.tag = uuid.uuid4().hex
        self.opening = opening
        self.origin_machine, self._service = origin, service

    @property
    def origin(self) -> Origin:
        """Return the origin service that the connection leads to."""
        return self.origin_machine.probe.origin(self._service.name)

    def greeting(self, mode: str, **options: object) -> bytes:
        """Return the first line of this connection, which asks the origin for a mode."""
        return greeting(mode, self.tag, **options)

    def start(self, *, chunk: int = 1400, interval: float = 0.002, acknowledged: bool = False) -> Transfer:
        """Start to send an endless stream to the origin, which reads everything; `end` ends it.

        `chunk` is in bytes, and one chunk is sent every `interval` seconds; if `acknowledged`, not before all
        earlier ones are acknowledged.
        """
        header = self.greeting("sink")
        return self.stream.send(
            ENDLESS,
            seed=self.tag,
            chunk=chunk,
            interval=interval,
            header=header,
            acknowledged=acknowledged,
        )

    def end(self, transfer: Transfer, within: float = 20.0) -> Ended:
        """End a stream that `start` began; return what both ends saw of it.

        Each step of this may take `within` seconds.
        """
        return self._end_stream(transfer.finish(within), within)

    def upload(
        self, nbytes: int, *, chunk: int = 65536, pattern: str = "random", within: float = 60.0
    ) -> Ended:
        """Send so many bytes without pauses, and end the stream; return what both ends saw of it."""
        return self.finish_upload(self.begin(nbytes, chunk=chunk, pattern=pattern), within)

    def begin(self, nbytes: int, *, chunk: int = 65536, pattern: str = "random") -> Transfer:
        """Start to send so many bytes without pauses; `finish_upload` waits for the end."""
        header = self.greeting("sink")
        return self.stream.send(nbytes, seed=self.tag, chunk=chunk, pattern=pattern, header=header)

    def finish_upload(self, transfer: Transfer, within: float = 60.0) -> Ended:
        """Wait until a transfer that `begin` started is sent, and end the stream; return what both ends saw.

        Raises:
            TransferFailed: the transfer failed or took longer than `within` seconds; the message
                names stuck subflows.
        """
        try:
            sent = transfer.wait(within)
        except TransferFailed as error:
            what = error.what + self.describe_stuck()
            raise TransferFailed(error.where, what, error.result) from None
        return self._end_stream(sent, within)

    def _end_stream(self, sent: TransferResult, within: float) -> Ended:
        self.stream.shutdown()
        self.stream.receive().wait(within)  # until the other end has ended too
        return Ended(sent, eventually(self.record, until=lambda record: not record.open, within=within))

    def records(self) -> tuple[OriginRecord, ...]:
        """Return every connection that reached the origin with this stream's tag."""
        return self.origin.connections(tag=self.tag)

    def record(self, within: float = 10.0) -> OriginRecord:
        """Return the origin's record of this stream; fail unless the origin has just one such connection."""
        found = eventually(
            self.records, until=len, within=within, what=f"a connection at {self.origin_machine.name}"
        )
        assert len(found) == 1, (
            f"one connection was expected at {self.origin_machine.name}, {len(found)} came"
        )
        return found[0]

    def wait_for_bytes(self, more: int, within: float = 20.0) -> None:
        """Wait until so many bytes more than now have arrived at the origin.

        Raises:
            NeverHappened: they did not arrive within `within` seconds; the message names stuck subflows.
        """
        arrived = self.record().bytes_received
        try:
            eventually(
                lambda: self.record().bytes_received,
                until=lambda nbytes: nbytes >= arrived + more,
                within=within,
                what=f"{more} more octets at {self.origin_machine.name}",
            )
        except NeverHappened as error:
            raise NeverHappened(f"{error}{self.describe_stuck()}") from None

    def describe_stuck(self) -> str:
        """Return the stuck subflows of client and origin as text to append; nothing if there are none.

        An end whose socket cannot be read, because it is closed for instance, is left out.
        """
        ends = {}
        with suppress(ProbeError):
            ends[self.opening.client.name] = self.stream.facts()
        with suppress(ProbeError):
            for record in self.records():
                ends[self.origin_machine.name] = self.origin.facts(record.number)
        return describe_stuck(ends)

    def sent_by_subflow(self) -> dict[tuple[str, str], int]:
        """Return the bytes that each subflow (local, remote) has sent: its tcp_info's bytes_sent."""
        return {
            (subflow.local, subflow.remote): subflow.tcp["bytes_sent"]
            for subflow in self.stream.facts().subflows
        }

    def pairs(self) -> set[AddressPair]:
        """Return the subflows (local, remote) that the client and its peer have both established."""
        far_end = self.opening.far_end
        mine = self.stream.facts().subflows
        return at_both_ends(mine, far_end.sockets() if mine else (), far_end.seen_as)


@contextmanager
def flow(
    client: Machine,
    address: str,
    port: int,
    origin: Machine,
    service: Service,
    *,
    protocol: str = "mptcp",
    source: str | None = None,
    within: float = 20.0,
    far_end: FarEnd | None = None,
) -> Iterator[Flow]:
    """Connect a client to `address`, behind which the origin `service` is, and close at the end of the block.

    ``source`` is the client's own address; without it the kernel chooses. ``far_end`` is where the client's
    subflows end; without it they end at the origin itself.
    """
    far = far_end or FarEnd(origin, service.port)
    opening = Opening(
        client,
        far,
        (client.probe.counters(), far.machine.probe.counters()),
        lambda: flow(
            client,
            address,
            port,
            origin,
            service,
            protocol=protocol,
            source=source,
            within=within,
            far_end=far_end,
        ),
    )
    with client.probe.connect(address, port, protocol=protocol, source=source, within=within) as stream:
        yield Flow(stream, origin, service, opening)


@dataclass(frozen=True)
class Target:
    """The listener to which a client connects, and the origin behind it, over IPv4 (4) or IPv6 (6).

    ``to`` is the address to connect to, if it is not that of the machine's first path. ``subflows`` are the
    subflows to expect and ``ends_at`` is the host where they end, if addresses are translated on the way (by
    a forwarder). Both are None if they are not: then the subflows end at the machine itself.
    """

    machine: Machine
    service: Service
    origin: Machine
    origin_service: Service
    family: int = 4
    to: str = ""
    subflows: Matrix | None = None
    ends_at: FarEnd | None = None

    @property
    def port(self) -> int:
        """Return the listener's port."""
        return self.service.port

    @property
    def address(self) -> str:
        """Return the address to connect to."""
        return self.to or self.machine.address(0, self.family)

    @property
    def far_end(self) -> FarEnd:
        """Return the host and port where a client's subflows end."""
        return self.ends_at or FarEnd(self.machine, self.port)

    def with_family(self, family: int) -> Target:
        """Return the same target over IPv4 (4) or IPv6 (6)."""
        return replace(self, family=family)

    @contextmanager
    def flow(self, client: Machine, protocol: str = "mptcp", within: float = 20.0) -> Iterator[Flow]:
        """Connect a client to the origin through this target, and close at the end of the block."""
        to = (self.address, self.port, self.origin, self.origin_service)
        with flow(client, *to, protocol=protocol, within=within, far_end=self.far_end) as opened:
            yield opened


def is_mptcp(stream: Stream) -> bool:
    """Return whether a connection is MPTCP, from TCP_IS_MPTCP or MPTCP_INFO of its socket, not from `ss`."""
    facts = stream.facts()
    return facts.protocol == IPPROTO_MPTCP and bool(facts.is_mptcp)
