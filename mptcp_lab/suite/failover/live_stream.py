"""Check failover in its common shape: a live stream loses a path, goes on, and arrives whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.inventory.model import Nic
from mptcp_lab.machines.session import Machine
from mptcp_lab.suite.directions import DOWNLOAD, UPLOAD, Movement, MovementResult
from mptcp_lab.suite.expectations import subflows_to, wait_for_joins
from mptcp_lab.suite.packets import bytes_by_receiver, bytes_by_sender, rows, tcp_capture
from mptcp_lab.suite.traffic import Target
from mptcp_lab.wire import Segment

#: A stream whose path is lost must go on within this time, which is several retransmission timeouts.
RESUMED_WITHIN_SECONDS = 20.0
#: So many bytes arrive in each direction before the fault, and again under it: about 70 packets. What was in
#: flight at the fault is a few packets, so most of the later ones were sent under it.
ENOUGH_BYTES = 100_000
#: Counters that grow at the sender when a path is lost (net/mptcp/mib.c).
SENDER_COUNTERS = ("SubflowStale", "SubflowRecover")


def check_survives(
    client: Machine,
    target: Target,
    fault: Callable[[], AbstractContextManager[object]],
    evidence: EvidenceBox,
    direction: str = UPLOAD,
    address: str = "",
) -> MovementResult:
    """Check that a stream between a client and a target survives `fault`, the loss of its first path.

    `direction` is one of `directions.DIRECTIONS`, and `address` the one that is lost with the path, at either
    end: the client's first by default. In each direction that carries data, it must carry the stream before
    the fault, and subflows without it during the fault. The origin must accept one connection, and every
    octet must arrive once and in order. The gap in the evidence is the longest pause at the receiver of each
    direction.
    """
    pairs, origin = subflows_to(client, target), target.origin.probe.origin(target.origin_service.name)
    senders = {UPLOAD: client, DOWNLOAD: target.far_end.machine}
    counted = {way: machine.probe.counters() for way, machine in senders.items()}
    accepted = origin.counts()["accepted"]
    with (
        tcp_capture(client, target.port, [nic.device for nic in client.paths]) as capture,
        target.flow(client) as data,
    ):
        movement = Movement(data, direction)
        wait_for_joins(data, pairs)
        movement.wait_for(ENOUGH_BYTES, 10, "octets before the loss")
        with fault():
            lost = client.probe.clock().realtime
            movement.wait_for(ENOUGH_BYTES, RESUMED_WITHIN_SECONDS, "the stream goes on under the fault")
            back = client.probe.clock().realtime
        moved = movement.end()
        packets = capture.stop()
    accepted = origin.counts()["accepted"] - accepted
    assert data.stream.local is not None, f"the connection of {client.name} has no local address"
    story = Story(packets, target.port, address or data.stream.local.address, lost, back)
    _keep(story, moved, client, evidence)
    for way in moved.ways:
        grown = senders[way.direction].probe.counters().delta(counted[way.direction])
        stale = {name: grown.mptcp(name) for name in SENDER_COUNTERS if grown.has(name)}
        evidence.document(f"counters of the sender, {way.direction}", stale)
        story.check_carriers(way.direction)
    assert accepted == 1, f"the origin accepted {accepted} connections"
    moved.check_intact()
    return moved


@dataclass(frozen=True)
class Story:
    """The events of a failover in a capture at the client; times are seconds since the epoch.

    `address`, of either end, is lost with the path between `lost` and `back`.
    """

    packets: list[Segment]
    port: int
    address: str
    lost: float
    back: float

    def check_carriers(self, direction: str) -> None:
        """Check that the lost address carried data in a direction before the loss, and others during it."""
        before, after = (
            self.carriers(direction, 0.0, self.lost),
            self.carriers(direction, self.lost, self.back),
        )
        assert any(self.address in pair for pair in before), (
            f"{direction}: {self.address} carried nothing before the loss, only {sorted(before)}"
        )
        assert any(self.address not in pair for pair in after), (
            f"{direction}: nothing but {self.address} carried anything under the fault: {sorted(after)}"
        )

    def carriers(self, direction: str, since: float, until: float) -> set[tuple[str, str]]:
        """Return the addresses, sender's and receiver's, that carried data between two times."""
        times = (int(since * 1e9), int(until * 1e9))
        data = [s for s in self.packets if s.payload_length and times[0] <= s.time_ns < times[1]]
        sent = [s for s in data if (s.dport if direction == UPLOAD else s.sport) == self.port]
        return {(str(s.src), str(s.dst)) for s in sent}


def path_names(nics: Sequence[Nic]) -> dict[str, str]:
    """Map the addresses of these NICs to names of their paths.

    The name is the segment, followed by the NIC's device if several of the NICs are on the segment.
    """
    used = Counter(nic.segment for nic in nics)
    names: dict[str, str] = {}
    for nic in nics:
        name = nic.segment if used[nic.segment] == 1 else f"{nic.segment} {nic.device}"
        names |= {str(nic.address(family)): name for family in (4, 6)}
    return names


def _keep(story: Story, moved: MovementResult, client: Machine, evidence: EvidenceBox) -> None:
    """Keep as evidence the gap of each direction, the bytes of every path over time, and the main packets."""
    zero = story.packets[0].time_ns
    marks = [(story.lost - zero / 1e9, "path lost"), (story.back - zero / 1e9, "path back")]
    moved.keep_gaps(evidence)
    for way in moved.ways:
        series_of = bytes_by_sender if way.direction == UPLOAD else bytes_by_receiver
        name = "bytes sent on each path" if way.direction == UPLOAD else "bytes received on each path"
        start, seconds = way.gap[0] - zero / 1e9, way.gap[1]
        series = series_of(story.packets, story.port, zero, path_names(client.paths))
        evidence.timeline(name, series, marks, gap=(start, start + seconds))
    evidence.packets(rows(story.packets, client.name), zero_ns=zero)
