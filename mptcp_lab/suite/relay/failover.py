"""Check that a relayed stream survives the loss of a path between the proxies (RELAY-3)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.machines.session import Machine
from mptcp_lab.suite.directions import Movement
from mptcp_lab.suite.failover.live_stream import ENOUGH_BYTES, RESUMED_WITHIN_SECONDS, Story
from mptcp_lab.suite.packets import rows
from mptcp_lab.suite.relay.relays import Relay
from mptcp_lab.suite.traffic import Flow


def check_relay_survives(
    client: Machine,
    relay: Relay,
    direction: str,
    fault: Callable[[], AbstractContextManager[object]],
    evidence: EvidenceBox,
) -> None:
    """Check that neither client nor server notices the loss of the first path between the proxies.

    `direction` is one of `directions.DIRECTIONS`, and `fault` is the loss. The first path must carry the
    stream before the loss and another one during it. Each direction must arrive whole over the same two outer
    connections. The gap in the evidence is the longest pause at the receiver of each direction.
    """
    middle, before = relay.middle, relay.middle.counters()
    with middle.capture() as capture, relay.flow(client) as data:
        movement = Movement(data, direction)
        middle.wait_for_subflows(before)
        movement.wait_for(ENOUGH_BYTES, 10, "octets before the loss")
        outer = _outer(data)
        with fault():
            lost = relay.front.probe.clock().realtime
            movement.wait_for(
                ENOUGH_BYTES, RESUMED_WITHIN_SECONDS, "the stream goes on while the path is lost"
            )
            during, back = _outer(data), relay.front.probe.clock().realtime
        moved = movement.end()
        packets = capture.stop()
    evidence.packets(rows(packets, relay.front.name), zero_ns=packets[0].time_ns)
    evidence.document("outer connections", outer)
    story = Story(packets, middle.port, str(middle.paths[0][0].address(middle.family)), lost, back)
    moved.keep_gaps(evidence)
    for way in moved.ways:
        early, late = (story.carriers(way.direction, *times) for times in ((0.0, lost), (lost, back)))
        assert story.first in early, (
            f"{way.direction}: {story.first} carried nothing before the loss, only {early}"
        )
        assert late - {story.first}, (
            f"{way.direction}: nothing but {story.first} carried anything while the path was lost"
        )
    assert during == outer, f"the outer connections changed from {outer} to {during}"
    moved.check_intact()


def _outer(data: Flow) -> dict[str, list[str]]:
    """Return the addresses and ports of the client's and of the server's connection."""
    facts, record = data.stream.facts(), data.record()
    return {
        "client's": [str(facts.local), str(facts.peer)],
        "server's": [str(record.peer), str(record.local)],
    }
