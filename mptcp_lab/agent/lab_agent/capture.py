"""Capture packets as pcapng with one TPACKET_V3 ring per NIC (kernel: networking/packet_mmap.rst).

Packets are cut to a snap length, so that a capture holds headers and little payload.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import platform
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence

from .basics import Json
from .packet_filter import keep_all, keep_ports
from .sockets import Cancelled, Waker

SOL_PACKET, PACKET_RX_RING, PACKET_STATISTICS, PACKET_VERSION, TPACKET_V3 = 263, 5, 6, 10, 2
SO_ATTACH_FILTER, SIOCGIFHWADDR = 26, 0x8927
ETH_P_ALL = 3
BLOCK_BYTES, BLOCK_COUNT, FRAME_BYTES, RETIRE_MS = 1 << 17, 48, 2048, 10
TP_STATUS_USER = 1
PACKET_OTHERHOST, PACKET_OUTGOING = 3, 4
ARPHRD_LOOPBACK, LINKTYPE_ETHERNET, LINKTYPE_RAW = 772, 1, 101
ARPHRD_ETHER = 1
CAPTURE_BYTES = 256 << 20  # ring blocks kept in memory per NIC; beyond this, packets are counted as dropped


class NicCapture:
    """One NIC's ring, which a thread drains into memory; with `ports`, only their TCP packets get into it."""

    def __init__(self, device: str, snaplen: int, ports: Sequence[int] = ()) -> None:
        self.device = device
        self.blocks: list[bytes] = []
        self.drained = 0
        self.dropped = 0
        self._seen = 0
        self._kept = 0
        self._waker = Waker()
        self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        try:
            self.hardware = self._hardware_type()
            self._filter(keep_ports(ports, snaplen) if ports else keep_all(snaplen))
            self.sock.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V3)
            frames = BLOCK_BYTES // FRAME_BYTES * BLOCK_COUNT
            ring = struct.pack("=7I", BLOCK_BYTES, BLOCK_COUNT, FRAME_BYTES, frames, RETIRE_MS, 0, 0)
            self.sock.setsockopt(SOL_PACKET, PACKET_RX_RING, ring)
            self._ring = mmap.mmap(self.sock.fileno(), BLOCK_BYTES * BLOCK_COUNT)
            self.sock.bind((device, ETH_P_ALL))
        except BaseException:
            self.sock.close()
            raise
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _hardware_type(self) -> int:
        request = fcntl.ioctl(self.sock, SIOCGIFHWADDR, struct.pack("16s24x", self.device.encode()))
        return int(struct.unpack_from("=H", request, 16)[0])

    def _filter(self, instructions: Sequence[bytes]) -> None:
        """Attach a BPF program, which decides how many bytes of each packet the kernel copies."""
        octets = b"".join(instructions)
        program = ctypes.create_string_buffer(octets, len(octets))
        self.sock.setsockopt(
            socket.SOL_SOCKET,
            SO_ATTACH_FILTER,
            struct.pack("HP", len(instructions), ctypes.addressof(program)),
        )

    def _run(self) -> None:
        position = 0
        with contextlib.suppress(Cancelled):
            while True:
                start = position * BLOCK_BYTES
                status, packets = struct.unpack_from("=II", self._ring, start + 8)
                if not status & TP_STATUS_USER:
                    self._waker.wait(self.sock, select.POLLIN | select.POLLERR)
                    continue
                length = struct.unpack_from("=I", self._ring, start + 20)[0]
                if self._kept + length <= CAPTURE_BYTES:
                    self.blocks.append(self._ring[start : start + length])
                    self._kept += length
                else:
                    self.dropped += packets
                self.drained += packets
                struct.pack_into("=I", self._ring, start + 8, 0)
                position = (position + 1) % BLOCK_COUNT

    def _count(self) -> None:
        """Add PACKET_STATISTICS to the totals. Reading resets them; tp_packets includes the drops."""
        packets, drops, _ = struct.unpack("=3I", self.sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 12))
        self._seen += packets - drops
        self.dropped += drops

    def stop(self) -> None:
        """Stop the capture: filter out new packets, wait at most 2 s until the ring is drained, close."""
        self._filter(keep_all(0))
        deadline = time.monotonic() + 2
        self._count()
        while self.drained < self._seen and time.monotonic() < deadline:
            # The kernel's timer retires the open block; no event or counter reports that.
            time.sleep(RETIRE_MS / 2000)
            self._count()
        self.dropped += max(0, self._seen - self.drained)
        self.close()

    def close(self) -> None:
        """Stop the thread and close the socket without draining the ring."""
        self._waker.wake()
        self._thread.join()
        self._ring.close()
        self.sock.close()
        self._waker.close()

    def packets(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Yield (time in ns, original length, packet type, bytes) of each packet in the order of arrival."""
        for block in self.blocks:
            count, offset = struct.unpack_from("=II", block, 12)
            for _ in range(count):
                step, seconds, nanos, kept, length, _, mac = struct.unpack_from("=6IH", block, offset)
                kind = block[offset + 48 + 10]  # sll_pkttype of the sockaddr_ll behind the 48-byte header
                # The loopback device shows every packet twice, as outgoing and as incoming. Packets for other
                # hosts, which a switch floods to all ports, are left out: a NIC would drop them.
                twice = kind == PACKET_OUTGOING and self.hardware == ARPHRD_LOOPBACK
                if not twice and kind != PACKET_OTHERHOST:
                    data = block[offset + mac : offset + mac + kept]
                    yield seconds * 1_000_000_000 + nanos, length, kind, data
                offset += step


class Capture:
    """A capture on several NICs, which start and stop together and give one pcapng file."""

    def __init__(self, devices: list[str], snaplen: int, ports: Sequence[int] = ()) -> None:
        self.snaplen = snaplen
        self.nics: list[NicCapture] = []
        self.data = b""
        try:
            for device in devices:
                self.nics.append(NicCapture(device, snaplen, ports))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop without a result."""
        for nic in self.nics:
            nic.close()
        self.nics = []

    def stop(self) -> Json:
        """Stop, store the pcapng in `data`, and return its size and the packet counts per device."""
        for nic in self.nics:
            nic.stop()
        nics, self.nics = self.nics, []
        self.data = b"".join(pcapng_blocks(nics, self.snaplen))
        counts = {nic.device: {"packets": nic.drained, "dropped": nic.dropped} for nic in nics}
        return {"nbytes": len(self.data), "devices": counts}


def pcapng_block(kind: int, body: bytes) -> bytes:
    """Return one pcapng block: type, length, padded body, and the length again."""
    body += bytes(-len(body) % 4)
    length = struct.pack("=I", len(body) + 12)
    return struct.pack("=I", kind) + length + body + length


def pcapng_option(code: int, data: bytes) -> bytes:
    """Return one pcapng option, padded to 32 bits."""
    return struct.pack("=HH", code, len(data)) + data + bytes(-len(data) % 4)


def pcapng_blocks(nics: list[NicCapture], snaplen: int) -> Iterator[bytes]:
    """Yield the blocks of a pcapng file.

    They are a section header, an interface description per NIC (with name, times in ns), all packets sorted
    by time, and the interface statistics with the number of drops.
    """
    end = pcapng_option(0, b"")
    host = pcapng_option(4, f"mptcp-lab probe on {platform.node()}".encode()) + end
    yield pcapng_block(0x0A0D0D0A, struct.pack("=IHHq", 0x1A2B3C4D, 1, 0, -1) + host)
    for nic in nics:
        link = LINKTYPE_ETHERNET if nic.hardware in (ARPHRD_ETHER, ARPHRD_LOOPBACK) else LINKTYPE_RAW
        options = pcapng_option(2, nic.device.encode()) + pcapng_option(9, b"\x09") + end
        yield pcapng_block(1, struct.pack("=HHI", link, 0, snaplen) + options)
    packets = [(packet, index) for index, nic in enumerate(nics) for packet in nic.packets()]
    packets.sort(key=lambda entry: entry[0][0])
    for (stamp, length, kind, data), index in packets:
        head = struct.pack("=5I", index, stamp >> 32, stamp & 0xFFFFFFFF, len(data), length)
        direction = pcapng_option(2, struct.pack("=I", 2 if kind == PACKET_OUTGOING else 1))
        yield pcapng_block(6, head + data + bytes(-len(data) % 4) + direction + end)
    now = time.time_ns()
    for index, nic in enumerate(nics):
        options = pcapng_option(5, struct.pack("=Q", nic.dropped)) + end
        yield pcapng_block(5, struct.pack("=3I", index, now >> 32, now & 0xFFFFFFFF) + options)
