"""Relay raw packets for a TCP peer that runs on the controller."""

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
    """A raw relay (IPv4): it reports the TCP packets to (address, port), and sends the peer's answers.

    It receives packets before the packet filter does: a drop fault can keep the kernel from answering packets
    that the relay still reports.
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
            self._spoken.bind((address, 0))  # policy routing selects by the source address
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
        """Send an IPv4 packet, header included, unchanged."""
        self._spoken.sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))

    def close(self) -> None:
        """Stop relaying."""
        self._waker.wake()
        self._thread.join()
        self._heard.close()
        self._spoken.close()
        self._waker.close()
