"""One subflow of a user-space peer: what it sends, and what it waits for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from secrets import token_bytes
from typing import TypeVar

from mptcp_lab.probe import NeverHappened
from mptcp_lab.suite.packets import format_segments
from mptcp_lab.suite.rfc8684.peer_wire import Suits, Wire
from mptcp_lab.wire import (
    Dss,
    MptcpOption,
    Segment,
)
from mptcp_lab.wire.codec import Option
from mptcp_lab.wire.endpoint import Endpoint, Leg
from mptcp_lab.wire.packet import ACK, FIN, PSH, RST, SYN

#: A SYN is sent again after this time (RFC 6298, 2.1), since a port that was just plugged in loses the first
#: one. Data without a DATA_ACK is sent again too, since an ADD_ADDR in the acknowledgement leaves no room for
#: a DATA_ACK.
RETRANSMIT_SECONDS = 1.0
#: How long to wait for data on one subflow before the next one gets its turn.
DATA_WAIT_SECONDS = 0.02
Form = TypeVar("Form", bound=MptcpOption)


class Subflow:
    """One subflow of the peer, on its wire: `says` sends and `hears` receives, in a packet ladder's order."""

    def __init__(self, wire: Wire, leg: Leg, endpoint: Endpoint) -> None:
        self.wire, self.leg, self.endpoint = wire, leg, endpoint
        self._last: Segment | None = None

    def says(self, flags: int, *options: Option, payload: bytes = b"") -> None:
        """Send the next segment, with these flags, options and payload."""
        segment = self.leg.segment(flags, *options, payload=payload)
        self._last = segment if payload else self._last
        self.wire.send(segment)

    def says_with_window(self, window: int, flags: int, *options: Option, payload: bytes = b"") -> None:
        """Send the next segment with a receive window of so many octets."""
        self.wire.send(replace(self.leg.segment(flags, *options, payload=payload), window=window))

    def asks(self, option: Option, what: str = "SYN/ACK") -> Segment:
        """Send a SYN, and repeat it until it is answered; return the SYN/ACK.

        Raises:
            NeverHappened: no answer came within the wire's `heard_within` seconds.
        """
        syn = self.leg.segment(SYN, option)
        self.wire.send(syn)
        return self._hears_or_repeats(syn, SYN | ACK, lambda _: True, what)

    def _hears_or_repeats(self, sent: Segment, flags: int, suits: Suits, what: str) -> Segment:
        """Wait for the answer to a segment, and send the segment again as long as there is none."""
        end = time.monotonic() + self.wire.heard_within
        while True:
            try:
                return self.hears(flags, suits, what, within=RETRANSMIT_SECONDS)
            except NeverHappened:
                if time.monotonic() >= end:
                    raise
            self.wire.send(sent)

    def hears(
        self, flags: int, suits: Suits = lambda _: True, what: str = "", within: float = 0.0
    ) -> Segment:
        """Return the next segment of the other end whose SYN, FIN and RST bits are those of `flags`.

        Segments that do not match, or that do not meet the condition `suits`, stay in the wire's queue.
        `what` names the segment in the error message, and `within` is in seconds (see `Wire.next`).
        """

        def is_wanted(segment: Segment) -> bool:
            if not self.leg.is_from_peer(segment):
                return False
            self.leg.take(segment)
            self.endpoint.learn(segment)
            return (segment.flags ^ flags) & (SYN | FIN | RST) == 0 and bool(suits(segment))

        return self.wire.next(is_wanted, what or "the next packet", within)

    def sends(self, payload: bytes) -> None:
        """Send data with its mapping."""
        self.says(PSH | ACK, self.endpoint.data(self.leg, payload), payload=payload)

    @property
    def peer_isn(self) -> int:
        """Return the other end's initial sequence number, from its SYN."""
        return next(s.seq for s in self.wire.log if self.leg.is_from_peer(s) and s.flags & SYN)

    def waiting_data(self) -> Iterator[Segment]:
        """Yield the data segments of the other end that have come, after a short wait for the first one."""
        with suppress(NeverHappened):
            while True:
                yield self.hears(ACK, lambda segment: segment.payload_length, within=DATA_WAIT_SECONDS)

    def says_beyond_window(self) -> None:
        """Send data whose DSN is far beyond the receive window."""
        end, payload = self.endpoint, token_bytes(10)
        far = Dss(end.data_ack, (end.dsn + (1 << 30)) % (1 << 64), self.leg.ssn, len(payload))
        self.says(PSH | ACK, far, payload=payload)

    def hears_data_ack(self) -> Segment:
        """Wait until the other end has acknowledged all data, and send the last data again until then."""
        assert self._last is not None, "nothing was sent on this subflow"
        return self._hears_or_repeats(
            self._last,
            ACK,
            lambda segment: _acknowledges(segment, self.endpoint.dsn),
            "DATA_ACK of all data",
        )


def _acknowledges(segment: Segment, dsn: int) -> bool:
    for option in segment.options:
        if isinstance(option, Dss) and option.data_ack is not None:
            return option.data_ack == dsn % (1 << 8 * option.data_ack_octets)
    return False


def option_of(segment: Segment, form: type[Form]) -> Form:
    """Return the first option of the class `form` in a segment; fail if the segment has none."""
    found = [option for option in segment.options if isinstance(option, form)]
    assert found, f"no {form.__name__} in {format_segments([segment])}"
    return found[0]
