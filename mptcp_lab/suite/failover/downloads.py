"""Check a stream from the server, or one in each direction, whose first path is lost (DIRECT-15)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import Listener, Stream, Transfer, TransferResult, eventually
from mptcp_lab.suite.expectations import expected_pairs, origin_of, wait_for_joins
from mptcp_lab.suite.failover.live_stream import ENOUGH_BYTES, RESUMED_WITHIN_SECONDS, path_names
from mptcp_lab.suite.packets import bytes_by_receiver, rows, tcp_capture
from mptcp_lab.suite.sockets import AddressPair, at_both_ends
from mptcp_lab.suite.traffic import ENDLESS, FarEnd, Flow, Opening, flow
from mptcp_lab.wire import Segment

DOWNLOAD, BOTH = "download", "both"
DIRECTIONS = (DOWNLOAD, BOTH)
#: A chunk of this size every two milliseconds: slow enough for every path, fast enough to show a pause.
CHUNK_BYTES, CHUNK_INTERVAL_S = 1400, 0.002
END_TIMEOUT_S = 20.0
#: Counters that move at the sender when a path is lost (net/mptcp/mib.c).
SENDER_COUNTERS = ("SubflowStale", "SubflowRecover")


class Served(Flow):
    """One connection from a client to a listener that the server's probe opened for the check.

    ``accepted`` is the server's end of the connection.
    """

    def __init__(self, stream: Stream, accepted: Stream, far_end: FarEnd, examined: Opening) -> None:
        super().__init__(stream, far_end.machine, origin_of(far_end.machine), examined)
        self.accepted = accepted
        self._end = far_end

    def pairs(self) -> set[AddressPair]:
        """Return the subflows (local, remote) that the client and the server have both established."""
        mine = self.stream.facts().subflows
        return at_both_ends(mine, self._end.sockets() if mine else ())


@dataclass(frozen=True)
class Way:
    """One direction of the connection: its sender and receiver, and the transfer at either end."""

    name: str
    sender: Machine
    receiver: Machine
    source: Stream
    sending: Transfer
    receiving: Transfer

    def count_received(self) -> int:
        """Return how many octets have arrived."""
        return self.receiving.progress().nbytes

    def end(self) -> tuple[TransferResult, TransferResult]:
        """End the sender's stream; return what it sent and what arrived."""
        sent = self.sending.finish(END_TIMEOUT_S)
        self.source.shutdown()
        return sent, self.receiving.wait(END_TIMEOUT_S)


def check_stream_survives(
    client: Machine,
    server: Machine,
    direction: str,
    fault: Callable[[], AbstractContextManager[object]],
    evidence: EvidenceBox,
) -> None:
    """Check that a stream from the server, or one in each direction, survives the loss of its first path.

    `direction` is one of `DIRECTIONS`, and `fault` is the loss. The first path must carry the server's data
    before the fault, and another path during the fault. Each direction must go on, the server must accept
    only one connection, and every octet must arrive once and in order. The gap in the evidence is the longest
    pause in what each receiver read.
    """
    before = server.probe.counters()
    with (
        listening(server) as listeners,
        tcp_capture(client, listeners[0].port, [nic.device for nic in client.paths]) as capture,
        served_client(client, server, listeners) as connection,
    ):
        ways = _begin(connection, client, server, direction)
        wait_for_joins(connection, expected_pairs(client, server))
        _wait_for_data(ways, dict.fromkeys(map(id, ways), 0), "before the loss")
        with fault():
            lost = client.probe.clock().realtime
            _wait_for_data(ways, {id(way): way.count_received() for way in ways}, "under the fault")
            back = client.probe.clock().realtime
        results = {way.name: way.end() for way in ways}
        accepted = sum(listener.accepted_count for listener in listeners)
        packets = capture.stop()
    port = listeners[0].port
    _keep(packets, port, (lost, back), client, evidence)
    for way in ways:
        _keep_gap(way, results[way.name][1], len(ways), evidence)
    for name in SENDER_COUNTERS:
        moved = server.probe.counters()["MPTcpExt", name] - before["MPTcpExt", name]
        evidence.figure(f"{name} at the server", moved)
    first = str(client.address(0))
    early, late = _receivers(packets, port, 0.0, lost), _receivers(packets, port, lost, back)
    assert first in early, f"{first} carried nothing from the server before the loss, only {early}"
    assert late - {first}, f"nothing but {first} carried the server's data under the fault"
    assert accepted == 1, f"the server accepted {accepted} connections"
    for name, (sent, got) in results.items():
        assert (sent.nbytes, sent.sha256) == (got.nbytes, got.sha256), (
            f"{name}: {sent.nbytes} octets were sent, {got.nbytes} arrived, or not the same"
        )


@contextmanager
def listening(server: Machine) -> Iterator[list[Listener]]:
    """Listen with MPTCP on the server's IPv4 path addresses, on one free port that is the same on each."""
    with ExitStack() as stack:
        first, *others = [str(nic.address()) for nic in server.paths if nic.address()]
        listeners = [stack.enter_context(server.probe.listen(first, 0))]
        port = listeners[0].port
        listeners += [stack.enter_context(server.probe.listen(address, port)) for address in others]
        yield listeners


@contextmanager
def served_client(client: Machine, server: Machine, listeners: list[Listener]) -> Iterator[Served]:
    """Connect a client to the server's first listener, and accept the connection there."""
    to = listeners[0].local
    assert to is not None, f"the listener at {server.name} has no local address"
    origin = origin_of(server)
    examined = Opening(
        client,
        FarEnd(server, origin.port),
        (client.probe.counters(), server.probe.counters()),
        lambda: flow(client, to.address, origin.port, server, origin),
    )
    with (
        client.probe.connect(to.address, to.port) as stream,
        listeners[0].accept() as accepted,
    ):
        yield Served(stream, accepted, FarEnd(server, to.port), examined)


def _begin(connection: Served, client: Machine, server: Machine, direction: str) -> list[Way]:
    """Start to send from the server, and with ``both`` also from the client."""

    def way(name: str, sender: Machine, receiver: Machine, source: Stream, sink: Stream) -> Way:
        sending = source.send(ENDLESS, seed=name, chunk=CHUNK_BYTES, interval=CHUNK_INTERVAL_S)
        return Way(name, sender, receiver, source, sending, sink.receive())

    ways = [way(DOWNLOAD, server, client, connection.accepted, connection.stream)]
    if direction == BOTH:
        ways.append(way("upload", client, server, connection.stream, connection.accepted))
    return ways


def _wait_for_data(ways: list[Way], arrived: dict[int, int], when: str) -> None:
    """Wait until each direction has received `ENOUGH_BYTES` more than `arrived` has for it."""
    for way in ways:
        _wait_for_octets(way, arrived[id(way)] + ENOUGH_BYTES, when)


def _wait_for_octets(way: Way, wanted: int, when: str) -> None:
    eventually(
        way.count_received,
        until=lambda nbytes: nbytes >= wanted,
        within=RESUMED_WITHIN_SECONDS,
        what=f"the {way.name} goes on {when}",
    )


def _receivers(packets: list[Segment], port: int, since: float, until: float) -> set[str]:
    """Return the client's addresses that received server data between two times (seconds since the epoch)."""
    data = (s for s in packets if s.sport == port and s.payload_length)
    return {str(s.dst) for s in data if int(since * 1e9) <= s.time_ns < int(until * 1e9)}


def _keep(
    packets: list[Segment], port: int, times: tuple[float, float], client: Machine, evidence: EvidenceBox
) -> None:
    """Keep as evidence the octets of each path over time, and the packets that open and close subflows."""
    zero = packets[0].time_ns
    series = bytes_by_receiver(packets, port, zero, path_names(client.paths))
    marks = [
        (moment - zero / 1e9, label) for moment, label in zip(times, ("path lost", "path back"), strict=True)
    ]
    evidence.timeline("octets received on each path", series, marks)
    evidence.packets(rows(packets, client.name), zero_ns=zero)


def _keep_gap(way: Way, got: TransferResult, ways: int, evidence: EvidenceBox) -> None:
    gap = 1000 * got.timeline.gaps[0].seconds
    if ways == 1:
        evidence.figure("gap", gap, "ms")
    else:
        evidence.figure(f"gap, {way.name}", gap, "ms")
