"""The raw relay of a peer that lives in the controller."""

from __future__ import annotations

import base64
import contextlib
import select
import socket
import struct
import threading
from collections.abc import Callable

from .basics import Json
from .sockets import Cancelled, Waker

ETH_P_IP = 0x0800


class Relay:
    """Raw packets for a peer elsewhere: reports those that come to (address, port), sends its answers (IPv4).

    It hears packets before the packet filter, so that a drop fault keeps the kernel from answering them too.
    """

    def __init__(self, address: str, port: int, report: Callable[[Json], None]) -> None:
        self._target = socket.inet_aton(address)
        self._port = struct.pack("!H", port)
        self._report = report
        self._waker = Waker()
        self._heard = socket.socket(
            socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, socket.htons(ETH_P_IP)
        )
        self._spoken = socket.socket(
            socket.AF_INET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW
        )
        try:
            self._spoken.bind((address, 0))  # policy routing looks at it
        except BaseException:
            self._heard.close()
            self._spoken.close()
            raise
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(Cancelled):
            while True:
                self._waker.wait(self._heard, select.POLLIN)
                packet = self._heard.recv(65535)
                transport = (packet[0] & 0x0F) * 4
                mine = packet[16:20] == self._target and packet[transport + 2 : transport + 4] == self._port
                if mine and packet[9] == socket.IPPROTO_TCP:
                    self._report({"event": "packet", "packet": base64.b64encode(packet).decode()})

    def send(self, packet: bytes) -> None:
        """Send an IPv4 packet as it is."""
        self._spoken.sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))

    def close(self) -> None:
        """Stop relaying."""
        self._waker.wake()
        self._thread.join()
        self._heard.close()
        self._spoken.close()
        self._waker.close()
