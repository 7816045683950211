"""Describe subflows that are stuck: they repeat a segment again and again, and no answer comes. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mptcp_lab.probe import Absent, SocketFacts
from mptcp_lab.probe.facts import Subflow

#: Retransmission timeouts in a row after which a subflow counts as stuck.
STUCK_BACKOFF = 3


def describe_stuck(ends: Mapping[str, SocketFacts]) -> str:
    """Return the stuck subflows of a connection's ends, by host, as text to append; nothing without any."""
    found = [
        f"{host}: {each.local} > {each.remote} got no answer to a segment of up to {each.tcp.get('snd_mss')}"
        f" octets, sent {each.tcp['backoff']} times more"
        for host, facts in ends.items()
        for each in _subflows(facts)
        if each.tcp.get("backoff", 0) >= STUCK_BACKOFF
    ]
    return f"; {'; '.join(found)}: a dead path, or a path MTU (DIRECT-27 tells them apart)" if found else ""


def _subflows(facts: SocketFacts) -> Iterator[Subflow]:
    """Yield the subflows of a socket; for plain TCP, the socket itself."""
    if not isinstance(facts.subflows, Absent) and facts.subflows:
        yield from facts.subflows
    elif facts.local and facts.peer and facts.tcp:
        local, peer = facts.local, facts.peer
        yield Subflow(local.address, local.port, peer.address, peer.port, None, facts.tcp)
