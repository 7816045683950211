"""Traffic of the checks: a stream from a client to an origin, and what both ends say of it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mptcp_lab.inventory.model import Service
from mptcp_lab.probe import IPPROTO_MPTCP, OriginRecord, Stream, Transfer, TransferResult, eventually
from mptcp_lab.suite.session import Machine

#: A stream with no end of its own: as much as nobody ever sends.
ENDLESS = 1 << 50


@dataclass(frozen=True)
class Ended:
    """A stream that has ended, as the client sent it and as the origin got it."""

    sent: TransferResult
    got: OriginRecord

    @property
    def intact(self) -> bool:
        """Whether every byte arrived, in order, once."""
        return (self.sent.nbytes, self.sent.sha256) == (self.got.bytes_received, self.got.sha256_received)

    @property
    def goodput(self) -> float:
        """Megabits per second, from the first byte at the origin to the last; of something that was sent."""
        first, last = self.got.received.first, self.got.received.last
        assert first is not None and last is not None
        return 8e-6 * self.got.bytes_received / (last - first)


def greeting(mode: str, tag: str, **options: object) -> bytes:
    """Return the first line that tells an origin what to do with a connection."""
    words = [f"{key}={value}" for key, value in options.items()]
    return " ".join(["MPTCPLAB/1", mode, tag, *words]).encode() + b"\n"


class Flow:
    """One connection of a client to an origin service, known at the origin by its tag."""

    def __init__(self, stream: Stream, origin: Machine, service: Service) -> None:
        self.stream = stream
        self.tag = uuid.uuid4().hex
        self._origin, self._service = origin, service

    def greeting(self, mode: str, **options: object) -> bytes:
        """Return the first line that tells the origin what to do."""
        return greeting(mode, self.tag, **options)

    def start(self, *, chunk: int = 1400, interval: float = 0.002) -> Transfer:
        """Begin to send to the origin, which reads everything, until `end`."""
        header = self.greeting("sink")
        return self.stream.send(ENDLESS, seed=self.tag, chunk=chunk, interval=interval, header=header)

    def end(self, transfer: Transfer, within: float = 20.0) -> Ended:
        """Let a started stream end; return what both ends saw of it."""
        return self._ended(transfer.finish(within), within)

    def upload(
        self, nbytes: int, *, chunk: int = 65536, pattern: str = "random", within: float = 60.0
    ) -> Ended:
        """Send so many bytes, as fast as they go, and end; return what both ends saw."""
        return self.uploaded(self.begin(nbytes, chunk=chunk, pattern=pattern), within)

    def begin(self, nbytes: int, *, chunk: int = 65536, pattern: str = "random") -> Transfer:
        """Begin to send so many bytes, as fast as they go."""
        header = self.greeting("sink")
        return self.stream.send(nbytes, seed=self.tag, chunk=chunk, pattern=pattern, header=header)

    def uploaded(self, transfer: Transfer, within: float = 60.0) -> Ended:
        """Wait until all of a transfer that was begun is sent, and end; return what both ends saw."""
        return self._ended(transfer.wait(within), within)

    def _ended(self, sent: TransferResult, within: float) -> Ended:
        self.stream.shutdown()
        self.stream.receive().wait(within)  # until the other end has ended too
        return Ended(sent, eventually(self.record, until=lambda record: not record.open, within=within))

    def records(self) -> tuple[OriginRecord, ...]:
        """Return every connection that reached the origin with this stream's tag."""
        return self._origin.probe.origin(self._service.name).connections(tag=self.tag)

    def record(self, within: float = 10.0) -> OriginRecord:
        """Return the origin's record of this stream; there must be just one connection."""
        found = eventually(
            self.records, until=len, within=within, what=f"a connection at {self._origin.name}"
        )
        assert len(found) == 1, f"one connection was expected at {self._origin.name}, {len(found)} came"
        return found[0]

    def until_received(self, more: int, within: float = 20.0) -> None:
        """Wait until so many bytes more than now have arrived at the origin."""
        arrived = self.record().bytes_received
        eventually(
            lambda: self.record().bytes_received,
            until=(arrived + more).__le__,
            within=within,
            what=f"{more} more octets at {self._origin.name}",
        )

    def sent_by_subflow(self) -> dict[tuple[str, str], int]:
        """Return the bytes that each subflow (local, remote) has sent: its tcp_info's bytes_sent."""
        return {
            (subflow.local, subflow.remote): subflow.tcp["bytes_sent"]
            for subflow in self.stream.facts().subflows
        }

    def pairs(self) -> set[tuple[str, str]]:
        """Return the established subflows (local, remote), as the client's kernel tells (MPTCP_FULL_INFO)."""
        subflows = self.stream.facts().subflows
        return {(subflow.local, subflow.remote) for subflow in subflows if subflow.established}


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
) -> Iterator[Flow]:
    """Connect a client to `address`, behind which the origin `service` is; close at the end.

    ``source`` is the client's own address; without it the kernel chooses.
    """
    with client.probe.connect(address, port, protocol=protocol, source=source, within=within) as stream:
        yield Flow(stream, origin, service)


@dataclass(frozen=True)
class Front:
    """A proxy's listener and the origin behind it."""

    machine: Machine
    service: Service
    origin: Machine
    origin_service: Service

    @property
    def port(self) -> int:
        """The listener's port."""
        return self.service.port

    @contextmanager
    def flow(self, client: Machine, protocol: str = "mptcp", family: int = 4) -> Iterator[Flow]:
        """Connect a client to the origin through this front, over IPv4 (4) or IPv6 (6)."""
        to = (self.machine.address(0, family), self.port, self.origin, self.origin_service)
        with flow(client, *to, protocol=protocol) as opened:
            yield opened


def is_mptcp(stream: Stream) -> bool:
    """Return whether a connection really is MPTCP: by TCP_IS_MPTCP or MPTCP_INFO, never by `ss`."""
    facts = stream.facts()
    return facts.protocol == IPPROTO_MPTCP and bool(facts.is_mptcp)
