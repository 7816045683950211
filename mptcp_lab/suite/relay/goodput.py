"""Measure the goodput of a plain connection through a relay over limited paths (RELAY-5)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from mptcp_lab.machines.session import Machine
from mptcp_lab.suite.expectations import announcing_nothing
from mptcp_lab.suite.relay.relays import Relay
from mptcp_lab.suite.traffic import Flow

LINK_MBIT = 20
#: A queue that loses nothing.
QUEUE_MS, BURST_KB = 200, 64
BYTES_PER_PATH = 1_000_000


@contextmanager
def limited_paths(front: Machine) -> Iterator[None]:
    """Limit each path link of a proxy to `LINK_MBIT` for what it sends."""
    with ExitStack() as stack:
        for nic in front.paths:
            limit = front.probe.fault(
                "rate", device=nic.device, mbit=LINK_MBIT, latency_ms=QUEUE_MS, burst_kb=BURST_KB
            )
            stack.enter_context(limit)
        yield


def goodput(client: Machine, relay: Relay, nbytes: int) -> float:
    """Return the goodput in Mbit/s of an upload through a relay, from the first octet at B to the last."""
    with relay.flow(client) as data:
        return _upload(data, nbytes)


def goodput_over_one_path(client: Machine, relay: Relay, nbytes: int) -> float:
    """Return the same while the back announces no address, so that its first path is the only one."""
    with announcing_nothing(relay.back):
        return goodput(client, relay, nbytes)


def _upload(data: Flow, nbytes: int) -> float:
    ended = data.upload(nbytes)
    assert ended.intact, ended.difference
    return ended.goodput
