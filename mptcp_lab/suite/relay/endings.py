"""Check what proxies document for connections that end, are refused, reset or idle on a relay (RELAY-7)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass

from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.inventory.engines import PROXIES
from mptcp_lab.machines.session import Machine
from mptcp_lab.suite.proxy.proxies import LATE_SECONDS, ends, in_seconds, recorded_end, wait_for_bytes
from mptcp_lab.suite.relay.relays import Relay
from mptcp_lab.suite.timing import check_time
from mptcp_lab.suite.traffic import Flow

RelayedFlow = tuple[Relay, Flow]
#: nginx leaves a running timer as it is if the new one would be at most so much later (NGX_TIMER_LAZY_DELAY),
#: so that its idle timeout may come so much too early.
TIMER_SLACK_S = 0.3
#: So many octets are sent one by one, with pauses of a quarter of the idle timeout.
PAUSES = 6


@dataclass(frozen=True)
class DocumentedTogether:
    """The behaviour that a relay promises to its two ends.

    ``keeps_half_open``: one direction may end before the other. ``end_after_reset``: how B's connection may
    end after A's RST. ``idle`` is the time in seconds after which an idle connection ends, and
    ``longest_attempt`` how long the second proxy tries to connect to B.
    """

    keeps_half_open: bool
    end_after_reset: tuple[str, ...]
    idle: float
    longest_attempt: float

    @property
    def gives_up_after(self) -> float:
        """Return after how long A's connection ends if B cannot be reached.

        The first proxy sees an idle connection meanwhile, so that its idle timeout may come first.
        """
        return min(self.idle, self.longest_attempt)


def documented_together(relay: Relay) -> DocumentedTogether:
    """Return what both engines of a relay document, and the shorter of their timeouts."""
    first, second = relay.service, relay.middle.service
    both = (PROXIES[first.engine].documented, PROXIES[second.engine].documented)
    harsh = [each.end_after_reset for each in both]
    return DocumentedTogether(
        all(each.keeps_half_open for each in both),
        max(harsh, key=len),
        min(in_seconds(each.idle_timeout) for each in (first, second)),
        both[1].attempts * in_seconds(second.connect_timeout),
    )


def opened_through(client: Machine, relays: Sequence[Relay], stack: ExitStack) -> list[RelayedFlow]:
    """Connect a client through each relay at the same time, until `stack` is closed."""
    return [(relay, stack.enter_context(relay.flow(client))) for relay in relays]


def check_gives_up(
    client: Machine,
    relays: Sequence[Relay],
    fault: Callable[[Relay], AbstractContextManager[object]],
    evidence: EvidenceBox,
    *,
    at_once: bool,
) -> None:
    """Check that A's connection is opened, and ends without data when both proxies have to give up.

    All relays lead to the same server, to which `fault` is applied. `at_once` says that B refuses, so that
    an attempt may take less than the connect timeout.
    """
    with fault(relays[0]), ExitStack() as stack:
        waiting = [(r, data, data.stream.receive()) for r, data in opened_through(client, relays, stack)]
        seen = [(relay, *ends(answer, data.stream.at, within=15)) for relay, data, answer in waiting]
    for relay, result, seconds in seen:
        name, longest = _name(relay), documented_together(relay).gives_up_after
        evidence.figure(f"{name}: A's connection ends after", 1000 * seconds, "ms")
        assert (result.nbytes, result.end) == (0, "eof"), f"{name}: A got data, or no end of the stream"
        least = 0.0 if at_once else 0.9 * longest
        expected = f"{name}: {seconds:.1f} s, and the proxies try for {longest:.1f} s"
        assert least < seconds, expected
        check_time(seconds < longest + LATE_SECONDS, expected)


def check_idle(client: Machine, relays: Sequence[Relay], evidence: EvidenceBox) -> None:
    """Check that pauses below the idle timeout do no harm, and that a longer one ends both sides."""
    limit = documented_together(relays[0]).idle
    with ExitStack() as stack:
        opened = opened_through(client, relays, stack)
        receiving = [data.stream.receive() for _, data in opened]
        pausing = [
            data.stream.send(PAUSES, chunk=1, interval=limit / 4, header=data.greeting("sink"))
            for _, data in opened
        ]
        for (relay, data), answer, paused in zip(opened, receiving, pausing, strict=True):
            name, sent = _name(relay), paused.wait(10, check=False)
            assert sent.nbytes == PAUSES, (
                f"{name}: A could send {sent.nbytes} of {PAUSES} octets, {limit / 4:.1f} s apart"
            )
            wait_for_bytes(data, PAUSES)
            seen, seconds = ends(answer, sent.last or 0.0, within=15)
            evidence.figure(f"{name}: idle until the proxies ended it", 1000 * seconds, "ms")
            assert seen.end == "eof", f"{name}: how A's side ended after the idle timeout"
            expected = f"{name}: {seconds:.1f} s, and the idle timeout is {limit:.1f} s"
            assert 0.9 * limit - TIMER_SLACK_S < seconds, expected
            check_time(seconds < limit + LATE_SECONDS, expected)
            recorded_end(data)


def _name(relay: Relay) -> str:
    return f"{relay.service.engine} at {relay.front.name} before {relay.middle.service.engine}"
