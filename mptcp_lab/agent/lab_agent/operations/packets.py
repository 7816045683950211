"""Operations that report what happens: netlink events, captures, packets of a relay."""

from __future__ import annotations

import base64
import threading
import zlib
from collections.abc import Sequence

from ..basics import Json
from ..capture import Capture
from ..kernel.events import EventWatch
from ..kernel.socket_program import SocketProgram
from ..relay import Relay
from .base import Operations


class PacketOperations(Operations):
    """Watch events, capture packets, and relay the packets of a port."""

    def op_watch(self) -> str:
        """Report netlink events from now on, and return the id of the watch."""
        name = ""
        ready = threading.Event()

        def report(event: Json) -> None:
            ready.wait()
            self.say({**event, "watch": name})

        name = self.open.add("watch", EventWatch(report))
        ready.set()
        return name

    def op_socket_program(self) -> str:
        """Give this process MPTCP where it asks for TCP, by an eBPF program, until op_close."""
        return self.open.add("program", SocketProgram())

    def op_capture(self, devices: list[str], snaplen: int = 160, ports: Sequence[int] = ()) -> str:
        """Start a capture on these NICs and return its id; `snaplen` is in bytes per packet.

        With `ports` it has only the TCP packets of these ports.
        """
        return self.open.add("capture", Capture(devices, snaplen, ports))

    def op_capture_stop(self, capture: str) -> Json:
        """Stop a capture and return its counts; op_capture_fetch then returns the file in pieces."""
        return dict(self.open.get(capture).stop())

    def op_capture_fetch(self, capture: str, offset: int, length: int) -> str:
        """Return a piece of the pcapng file, compressed with zlib, in base64."""
        piece = self.open.get(capture).data[offset : offset + length]
        return base64.b64encode(zlib.compress(piece, 3)).decode()

    def op_relay(self, address: str, port: int) -> str:
        """Report raw packets to this address and port from now on, and return the id of the relay."""
        name = ""
        ready = threading.Event()

        def report(event: Json) -> None:
            ready.wait()
            self.say({**event, "relay": name})

        name = self.open.add("relay", Relay(address, port, report))
        ready.set()
        return name

    def op_relay_send(self, relay: str, packet: str) -> None:
        """Send a raw IPv4 packet (base64)."""
        self.open.get(relay).send(base64.b64decode(packet))
