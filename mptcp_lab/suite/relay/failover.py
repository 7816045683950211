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
    address: str,
    evidence: EvidenceBox,
) -> None:
    """Check that neither client nor server notices the loss of the first path between the proxies.

    `direction` is one of `directions.DIRECTIONS`, `fault` is the loss, and `address`, of either proxy, is
    lost with the path. It must carry the stream before the loss, and subflows without it during the loss.
    Each direction must arrive whole over the same two outer connections. The gap in the evidence is the
    longest pause at the receiver of each direction.
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
    story = Story(packets, middle.port, address, lost, back)
    moved.keep_gaps(evidence)
    for way in moved.ways:
        story.check_carriers(way.direction)
    assert during == outer, f"the outer connections changed from {outer} to {during}"
    moved.check_intact()


def _outer(data: Flow) -> dict[str, list[str]]:
    """Return the addresses and ports of the client's and of the server's connection."""
    facts, record = data.stream.facts(), data.record()
    return {
        "client's": [str(facts.local), str(facts.peer)],
        "server's": [str(record.peer), str(record.local)],
    }
