"""Check failover in its common shape: a live stream loses a path, goes on, and arrives whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.inventory.model import Nic
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import eventually
from mptcp_lab.suite.expectations import subflows_to, wait_for_joins
from mptcp_lab.suite.packets import bytes_by_sender, rows, tcp_capture
from mptcp_lab.suite.traffic import Ended, Target
from mptcp_lab.wire import Segment

#: A stream whose path is lost must go on within this time, which is several retransmission timeouts.
RESUMED_WITHIN_SECONDS = 20.0
#: So many bytes are sent before the fault, and again after the stream has resumed.
ENOUGH_BYTES = 200_000


def check_survives(
    client: Machine,
    target: Target,
    fault: Callable[[], AbstractContextManager[object]],
    evidence: EvidenceBox,
) -> Ended:
    """Check that a stream from a client to a target survives `fault`, the loss of its first path.

    The first path must carry the stream before the fault, and paths from another address during it. The
    origin must accept one connection and receive every byte once and in order. The gap in the evidence is the
    longest pause at the origin.
    """
    pairs = subflows_to(client, target)
    with (
        tcp_capture(client, target.port, [nic.device for nic in client.paths]) as capture,
        target.flow(client) as data,
    ):
        transfer = data.start()
        wait_for_joins(data, pairs)
        eventually(
            lambda: transfer.progress().nbytes,
            until=lambda nbytes: nbytes >= ENOUGH_BYTES,
            within=10,
            what="bytes sent",
        )
        with fault():
            lost = client.probe.clock().realtime
            arrived = data.record().bytes_received
            eventually(
                lambda: data.record().bytes_received,
                until=lambda nbytes: nbytes >= arrived + ENOUGH_BYTES,
                within=RESUMED_WITHIN_SECONDS,
                what="the stream goes on under the fault",
            )
            back = client.probe.clock().realtime
        ended = data.end(transfer)
        packets = capture.stop()
    assert data.stream.local is not None, f"the connection of {client.name} has no local address"
    story = Story(packets, target.port, data.stream.local.address, lost, back)
    _keep(story, ended, target.origin, client, evidence)
    before, after = story.senders(0.0, lost), story.senders(lost, back)
    assert story.first in before, f"{story.first} carried nothing before, only {before}"
    assert after - {story.first}, f"nothing but {story.first} carried anything under the fault"
    assert ended.intact, ended.difference
    return ended


@dataclass(frozen=True)
class Story:
    """The events of a failover in a capture at the client; times are seconds since the epoch."""

    packets: list[Segment]
    port: int
    first: str
    lost: float
    back: float

    def senders(self, since: float, until: float) -> set[str]:
        """Return the client's addresses that sent data between two times."""
        times = (int(since * 1e9), int(until * 1e9))
        data = (s for s in self.packets if s.dport == self.port and s.payload_length)
        return {str(s.src) for s in data if times[0] <= s.time_ns < times[1]}


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


def _keep(story: Story, ended: Ended, behind: Machine, client: Machine, evidence: EvidenceBox) -> None:
    """Keep as evidence the gap at the origin, the bytes of every path over time, and the main packets."""
    zero = story.packets[0].time_ns
    gap = ended.got.received.gaps[0]
    begun = behind.probe.clock().realtime_of(gap.start) - zero / 1e9
    series = bytes_by_sender(story.packets, story.port, zero, path_names(client.paths))
    marks = [(story.lost - zero / 1e9, "path lost"), (story.back - zero / 1e9, "path back")]
    evidence.figure("gap", 1000 * gap.seconds, "ms")
    evidence.timeline("bytes sent on each path", series, marks, gap=(begun, begun + gap.seconds))
    evidence.packets(rows(story.packets, client.name), zero_ns=zero)
