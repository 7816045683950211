"""Capture the headers of a connection and its events at both ends, while it is there."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from mptcp_lab.doctor.host_reading import HostReading
from mptcp_lab.doctor.unreadable import read_or
from mptcp_lab.errors import LabError
from mptcp_lab.probe.openssh import Examiner
from mptcp_lab.probe.watching import Capture, EventWatch
from mptcp_lab.wire.capture import CaptureError, CaptureFile
from mptcp_lab.wire.packet import Segment

DEVICES_MAX = 16


@dataclass
class End:
    """One end of a connection: its host, and what it was read as."""

    probe: Examiner
    reading: HostReading


@dataclass
class Watching:
    """Captures and events of one end while the connection is there."""

    captures: dict[str, Capture] = field(default_factory=dict)
    events: EventWatch | None = None
    refused: str = ""
    pcapng: bytes = b""
    found: dict[str, list[Segment]] = field(default_factory=dict)
    dropped: int = 0

    def stop(self) -> None:
        """End the captures, and keep their packets."""
        for device, capture in self.captures.items():
            octets = capture.stop()
            self.pcapng += octets
            self.found[device] = segments(octets)
            self.dropped += sum(counts.dropped for counts in capture.counts.values())


def segments(pcapng: bytes) -> list[Segment]:
    """Return the TCP segments of a capture; none for a capture without TCP."""
    with tempfile.NamedTemporaryFile(suffix=".pcapng") as file:
        Path(file.name).write_bytes(pcapng)
        with suppress(CaptureError):
            return [each for each in CaptureFile(file.name) if not each.options_cut]
    return []


def captured_devices(host: HostReading) -> list[str]:
    """Return the devices to capture on: those that are up and have an address."""
    held = {each.device for each in read_or(host.addresses, ())}
    links = [each for each in read_or(host.links, ()) if each.is_up and each.name in held]
    return [each.name for each in links if "LOOPBACK" not in each.flags][:DEVICES_MAX]


@contextmanager
def watch_end(end: End | None, ports: Sequence[int]) -> Iterator[Watching]:
    """Capture the headers of the ports at one end, and its events, as far as its user may."""
    seen = Watching()
    if end is None:
        yield Watching(refused="this host is not read")
        return
    with ExitStack() as stack:
        try:
            for device in captured_devices(end.reading):
                seen.captures[device] = stack.enter_context(end.probe.capture([device], ports=ports))
        except LabError as error:
            seen.refused = "needs root" if "EPERM" in str(error) else str(error)
        with suppress(LabError):
            seen.events = stack.enter_context(end.probe.watch_events())
        yield seen


@contextmanager
def watch_ends(
    client: End, server: End | None, ports: Sequence[int]
) -> Iterator[tuple[Watching, Watching, ThreadPoolExecutor]]:
    """Watch both ends; each answers by itself, so both are asked at once. The pool is for the block's use."""
    with ExitStack() as stack, ThreadPoolExecutor(2) as pool:
        ends = [watch_end(end, ports) for end in (client, server)]
        mine, theirs = pool.map(stack.enter_context, ends)
        yield mine, theirs, pool


def stop_watching(seen: Watching) -> None:
    """End the captures of one end; a host that no longer answers leaves the packets it has sent."""
    with suppress(LabError):
        seen.stop()
