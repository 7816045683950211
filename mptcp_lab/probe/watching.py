"""Watch netlink events of a host, and capture its packets."""

from __future__ import annotations

import base64
import contextlib
import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from mptcp_lab.errors import LabError
from mptcp_lab.patience import patient
from mptcp_lab.probe.client import Event, Nonsense, ProbeClient
from mptcp_lab.probe.shapes import Misshapen, read_as
from mptcp_lab.probe.waiting import NeverHappened

PIECE = 4 << 20
MOST_EVENTS = 200_000
CAPTURE_MAX_BYTES = 2 << 30


class EventWatch:
    """The events of MPTCP's path manager, links, addresses, routes and rules since it was opened.

    An event is a mapping with ``event`` ("mptcp" or "network"; "lost" if the kernel dropped some), ``type``
    ("sub_established", "address_removed", ...), ``at`` (the host's monotonic clock in seconds) and the fields
    of the kernel's message.
    """

    def __init__(self, probe: ProbeClient) -> None:
        self._probe = probe
        self._events: list[Event] = []
        self._changed = threading.Condition()
        self._name = ""
        self._early: list[Event] = []
        self._stop_listening = probe.listen_events(self._take)
        self._name = probe.ask(str, "watch")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take(self, event: Event) -> None:
        if "watch" in event:
            read_as(str, event.get("type"))
            read_as(float, event.get("at"))
            if len(self._events) >= MOST_EVENTS:
                raise Misshapen(f"more than {MOST_EVENTS} events")
            with self._changed:
                self._events.append(event)
                self._changed.notify_all()

    def all(self) -> tuple[Event, ...]:
        """Return all events so far."""
        with self._changed:
            return tuple(event for event in self._events if event["watch"] == self._name)

    def wait_for(self, predicate: Callable[[Event], object], within: float) -> Event:
        """Return the first event, past or future, for which the predicate is true.

        Raises:
            NeverHappened: there was none within ``within`` seconds.
        """
        within = patient(within)
        end = time.monotonic() + within
        while True:
            seen = self.all()
            for event in seen:
                if predicate(event):
                    return event
            with self._changed:
                if len(self._events) == len(seen):
                    self._changed.wait(min(0.5, max(0.0, end - time.monotonic())))
            self._probe.check_alive("watch")
            if time.monotonic() >= end:
                kinds = ", ".join(str(event["type"]) for event in seen) or "none"
                raise NeverHappened(f"{self._probe.host}: no such event within {within:g} s; seen: {kinds}")

    def close(self) -> None:
        """Stop watching."""
        self._probe.order("close", item=self._name)
        self._stop_listening()


@dataclass(frozen=True)
class CaptureCounts:
    """The packets of one NIC: captured, and dropped by the kernel because the probe was too slow."""

    packets: int
    dropped: int


@dataclass(frozen=True)
class CaptureSummary:
    """The length of a capture's file in bytes, and the packet counts of each NIC."""

    nbytes: int
    devices: Mapping[str, CaptureCounts]


class Capture:
    """A capture of packet headers in progress on some NICs; `stop` sets ``counts``."""

    def __init__(
        self, probe: ProbeClient, devices: list[str], snaplen: int, ports: Sequence[int] = ()
    ) -> None:
        self._probe = probe
        self.counts: Mapping[str, CaptureCounts] = {}
        self._name: str | None = probe.ask(
            str, "capture", devices=devices, snaplen=snaplen, ports=list(ports)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._name is None:
            return
        if kind is None:
            self._probe.order("close", item=self._name)
            self._name = None
            return
        with contextlib.suppress(LabError):  # the exception of the block matters more
            self.stop()  # its packets help to explain that exception

    def stop(self) -> bytes:
        """Stop the capture, and return it as pcapng: one interface per NIC, the kernel's timestamps in ns."""
        summary = self._probe.ask(CaptureSummary, "capture_stop", 30.0, capture=self._name)
        if not 0 <= summary.nbytes <= CAPTURE_MAX_BYTES:
            raise Nonsense(self._probe.host, "capture_stop", f"a capture of {summary.nbytes} bytes")
        self.counts = summary.devices
        pieces = [self._fetch(offset) for offset in range(0, summary.nbytes, PIECE)]
        self._probe.order("close", item=self._name)
        self._name = None
        pcapng = b"".join(pieces)
        self._probe.on_capture(self._probe.host, pcapng)
        return pcapng

    def _fetch(self, offset: int) -> bytes:
        """Fetch one piece of the file; never decompress more than one piece."""
        text = self._probe.ask(str, "capture_fetch", 30.0, capture=self._name, offset=offset, length=PIECE)
        try:
            unpacking = zlib.decompressobj()
            piece = unpacking.decompress(base64.b64decode(text, validate=True), PIECE + 1)
        except (ValueError, zlib.error) as error:
            raise Nonsense(self._probe.host, "capture_fetch", str(error)) from None
        if len(piece) > PIECE or not unpacking.eof:
            raise Nonsense(self._probe.host, "capture_fetch", "a piece that is longer than asked for")
        return piece
