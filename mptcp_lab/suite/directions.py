"""Move data from the client to the origin (upload), back (download), or in both directions at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.probe import NeverHappened, OriginRecord, Transfer, TransferResult, eventually
from mptcp_lab.probe.facts import Clock, SocketFacts, Timeline
from mptcp_lab.suite.sockets import AddressPair
from mptcp_lab.suite.traffic import Flow

UPLOAD, DOWNLOAD, BOTH = "upload", "download", "both"
DIRECTIONS = (UPLOAD, DOWNLOAD, BOTH)
#: The origin's mode for each direction.
MODES = {UPLOAD: "sink", DOWNLOAD: "source", BOTH: "duplex"}
#: The most that an origin sends: larger than any transfer, so such a stream ends only when it is stopped.
UNLIMITED_BYTES = 1 << 40


@dataclass(frozen=True)
class DirectionResult:
    """The data that one direction of a connection carried, as its sender and its receiver report it.

    ``sent`` and ``got`` are octets and SHA-256. ``gap`` is the longest pause in what the receiver read: its
    start (seconds since the epoch) and its seconds. ``growth`` are points of what the receiver read: a time
    (seconds since the epoch), and how many bytes it had by then.
    """

    direction: str
    sent: tuple[int, str]
    got: tuple[int, str]
    gap: tuple[float, float]
    growth: tuple[tuple[float, int], ...]

    @property
    def is_intact(self) -> bool:
        """Return whether every octet arrived once and in order."""
        return self.sent == self.got

    @property
    def difference(self) -> str:
        """Return how sent and received data differ, for the message of a check whose stream was damaged."""
        if self.sent[0] == self.got[0]:
            same = "octets were sent and as many arrived, but not the same ones"
            return f"{self.direction}: {self.sent[0]} {same}"
        return f"{self.direction}: {self.sent[0]} octets were sent, {self.got[0]} arrived"


@dataclass(frozen=True)
class MovementResult:
    """A connection that has ended: what each direction carried, and the origin's record of it."""

    ways: tuple[DirectionResult, ...]
    record: OriginRecord

    def keep_gaps(self, evidence: EvidenceBox) -> None:
        """Keep the gap of each direction as a figure; its name has the direction if there are two."""
        for way in self.ways:
            if len(self.ways) == 1:
                evidence.figure("gap", 1000 * way.gap[1], "ms")
            else:
                evidence.figure(f"gap, {way.direction}", 1000 * way.gap[1], "ms")

    def check_intact(self, nbytes: int | None = None) -> None:
        """Check that every octet of each direction arrived once and in order, `nbytes` of them if given."""
        for way in self.ways:
            assert way.is_intact, way.difference
            if nbytes is not None:
                assert way.got[0] == nbytes, (
                    f"{way.direction}: {way.got[0]} octets arrived, not the {nbytes} of the check"
                )


class Movement:
    """Data that moves on one connection in one direction or in both, until `end` is called.

    By default its size is unlimited, and it is slow enough for every path and fast enough to show a pause:
    1400 octets every two milliseconds.
    """

    def __init__(
        self,
        data: Flow,
        direction: str,
        *,
        nbytes: int = UNLIMITED_BYTES,
        chunk: int = 1400,
        interval_ms: int = 2,
        pattern: str = "random",
    ) -> None:
        self.data = data
        self._is_endless = nbytes == UNLIMITED_BYTES
        self._nbytes = nbytes
        self._uploads, self._downloads = direction != DOWNLOAD, direction != UPLOAD
        asked: dict[str, object] = (
            {
                "bytes": nbytes,
                "seed": data.tag,
                "pattern": pattern,
                "chunk": chunk,
                "interval_ms": interval_ms,
            }
            if self._downloads
            else {}
        )
        # Until the origin ends its direction, the receiver of an upload reads nothing.
        self._receiving: Transfer = data.stream.receive()
        self._sending = data.stream.send(
            nbytes if self._uploads else 0,
            seed=data.tag,
            chunk=chunk,
            interval=interval_ms / 1000,
            pattern=pattern,
            header=data.greeting(MODES[direction], **asked),
        )

    @property
    def ways(self) -> tuple[str, ...]:
        """Return the directions that carry data: UPLOAD, DOWNLOAD, or both of them."""
        return (UPLOAD,) * self._uploads + (DOWNLOAD,) * self._downloads

    def read_sender(self, way: str) -> SocketFacts:
        """Return the kernel's report about the connection from the host that sends in a direction."""
        if way == UPLOAD:
            return self.data.stream.facts()
        return self.data.origin.facts(self.data.record().number)

    def sent_by_subflow(self, way: str) -> dict[AddressPair, int]:
        """Return the bytes that a direction's sender has sent over each (address of A, address of B)."""
        subflows = self.read_sender(way).subflows
        if way == UPLOAD:
            return {(each.local, each.remote): each.tcp["bytes_sent"] for each in subflows}
        return {(each.remote, each.local): each.tcp["bytes_sent"] for each in subflows}

    def count_received(self) -> dict[str, int]:
        """Return how many octets have arrived so far, for each direction that carries data."""
        found = {}
        if self._uploads:
            found[UPLOAD] = self.data.record().bytes_received
        if self._downloads:
            found[DOWNLOAD] = self._receiving.progress().nbytes
        return found

    def wait_for(self, more: int, within: float, what: str) -> None:
        """Wait until so many octets more than now have arrived in each direction.

        Raises:
            NeverHappened: they did not arrive within `within` seconds; the message names stuck subflows.
        """
        before = self.count_received()
        try:
            eventually(
                lambda: {way: nbytes - before[way] for way, nbytes in self.count_received().items()},
                until=lambda grown: min(grown.values()) >= more,
                within=within,
                what=what,
            )
        except NeverHappened as error:
            raise NeverHappened(f"{error}{self.data.describe_stuck()}") from None

    def end(self, within: float = 20.0) -> MovementResult:
        """End both directions, once all that was sent has arrived; return what each of them carried.

        A movement with a number of octets ends by itself: this waits for it. The client does not close its
        direction before the other one is done, because some proxies end both when one ends.
        """
        sent = self._sending.finish(within) if self._is_endless else self._sending.wait(within)
        if self._is_endless and self._downloads:
            self.data.record()
            self.data.origin.stop_sending(self.data.tag)
        self._wait_for_rest(sent, within)
        self.data.stream.shutdown()
        got = self._receiving.wait(within)
        record = eventually(self.data.record, until=lambda record: not record.open, within=within)
        return MovementResult(tuple(self._direction_results(sent, got, record)), record)

    def _wait_for_rest(self, sent: TransferResult, within: float) -> None:
        """Wait until each receiver has as many octets as were sent."""

        def count_missing() -> int:
            record = self.data.record()
            there = sent.nbytes - record.bytes_received
            wanted = record.bytes_sent if self._is_endless else self._nbytes
            back = wanted - self._receiving.progress().nbytes if self._downloads else 0
            return max(there, 0) + max(back, 0)

        eventually(
            count_missing, until=lambda octets: octets == 0, within=within, what="octets still missing"
        )

    def _direction_results(
        self, sent: TransferResult, got: TransferResult, record: OriginRecord
    ) -> Iterator[DirectionResult]:
        if self._uploads:
            ends = (sent.nbytes, sent.sha256), (record.bytes_received, record.sha256_received)
            yield _of_receiver(UPLOAD, ends, record.received, self.data.origin_machine.probe.clock())
        if self._downloads:
            ends = (record.bytes_sent, record.sha256_sent), (got.nbytes, got.sha256)
            yield _of_receiver(DOWNLOAD, ends, got.timeline, got.clock)


def _of_receiver(
    direction: str, ends: tuple[tuple[int, str], tuple[int, str]], timeline: Timeline, clock: Clock
) -> DirectionResult:
    """Return the result of a direction; the receiver's timeline is by its own clock."""
    growth = tuple((clock.realtime_of(when), total) for when, total in timeline.points)
    return DirectionResult(direction, *ends, _longest(timeline, clock), growth)


def _longest(timeline: Timeline, clock: Clock) -> tuple[float, float]:
    """Return the longest pause of a timeline: its start in seconds since the epoch, and its seconds."""
    if not timeline.gaps:
        return (0.0, 0.0)
    return clock.realtime_of(timeline.gaps[0].start), timeline.gaps[0].seconds


def move(
    data: Flow,
    direction: str,
    nbytes: int,
    *,
    chunk: int = 65536,
    pattern: str = "random",
    within: float = 60.0,
) -> MovementResult:
    """Move so many octets in a direction, or in each of both, without pauses; return what was carried."""
    return Movement(data, direction, nbytes=nbytes, chunk=chunk, interval_ms=0, pattern=pattern).end(within)
