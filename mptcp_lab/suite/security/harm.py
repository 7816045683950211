"""Compare a connection with itself before an attack."""

from __future__ import annotations

from dataclasses import dataclass

from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import Counters, Transfer, TransferFailed
from mptcp_lab.probe.waiting import NeverHappened
from mptcp_lab.suite.sockets import AddressPair
from mptcp_lab.suite.traffic import Flow, Target, is_mptcp

#: Counters of options that a host has acted on or noticed; none of them grows on an undisturbed stream.
REACTIONS = ("RmAddr", "MPPrioRx", "MPFastcloseRx", "MPFailRx", "MPRstRx")
#: How much of a stream has to arrive after an attack.
AFTERWARDS_BYTES = 50_000
GOES_ON_WITHIN_SECONDS = 2.0
#: The pause between the chunks of a stream under attack: so slow that sequence numbers, which an attacker has
#: overheard, are still good when it forges some.
PAUSE_SECONDS = 0.01


@dataclass(frozen=True)
class Undisturbed:
    """A running stream before an attack: its subflows, and the counters of its two ends."""

    flow: Flow
    ends: tuple[Machine, Machine]
    pairs: set[AddressPair]
    counters: tuple[Counters, Counters]

    def reactions(self) -> dict[str, int]:
        """Return the counters in `REACTIONS` that have grown since, as "host: counter"."""
        found: dict[str, int] = {}
        for machine, before in zip(self.ends, self.counters, strict=True):
            grown = machine.probe.counters().delta(before)
            found |= {f"{machine.name}: {name}": grown.mptcp(name) for name in REACTIONS if grown.has(name)}
        return {name: number for name, number in found.items() if number}

    def check_unchanged(self, what: str) -> None:
        """Check after `what` that the stream goes on, no end has reacted, and all subflows are there."""
        stalled = ""
        try:
            self.flow.wait_for_bytes(1, GOES_ON_WITHIN_SECONDS)
        except NeverHappened as error:
            stalled = str(error)
        reactions, lost = self.reactions(), self.lost_pairs()
        assert not reactions, f"{what} was obeyed: {reactions}"
        assert not lost, f"{what} closed {sorted(lost)}"
        assert not stalled, f"{what} stops the stream: {stalled}"

    def lost_pairs(self) -> set[AddressPair]:
        """Return the subflows that the two ends no longer have."""
        return self.pairs - self.flow.pairs()


def observe_stream(flow: Flow, client: Machine, server: Machine) -> Undisturbed:
    """Return a stream and its ends as they are now."""
    counters = (client.probe.counters(), server.probe.counters())
    return Undisturbed(flow, (client, server), flow.pairs(), counters)


def damage_of(flow: Flow, transfer: Transfer, within: float = 5.0) -> str:
    """End a stream after more of it has arrived; return how it was damaged, or nothing if it arrived whole.

    Each step may take `within` seconds.
    """
    try:
        flow.wait_for_bytes(AFTERWARDS_BYTES, within)
        ended = flow.end(transfer, within)
    except (NeverHappened, TransferFailed) as error:
        return f"the stream does not go on: {error}"
    return "" if ended.intact else ended.difference


def check_serves(client: Machine, target: Target) -> None:
    """Check that a client's new connection is MPTCP, and carries a stream that arrives whole."""
    with target.flow(client) as data:
        transfer = data.start()
        assert is_mptcp(data.stream), f"{target.machine.name} answers {client.name} without MPTCP"
        damage = damage_of(data, transfer)
    assert not damage, damage
