"""Read which offloads of a network device are on, by ethtool's ioctl (include/uapi/linux/ethtool.h)."""

from __future__ import annotations

import array
import contextlib
import fcntl
import socket
import struct
from pathlib import Path

from .basics import read_line

SIOCETHTOOL = 0x8946
OFFLOADS = {"tso": 0x1E, "gso": 0x23, "gro": 0x2B}
STATISTICS = Path("/sys/class/net")
#: Packets that a device lost because the host did not take them from it in time.
MISSED = ("rx_missed_errors", "rx_fifo_errors", "rx_over_errors")


def read_offloads(device: str) -> dict[str, bool]:
    """Return whether each offload of a device is on; one that the driver does not know is left out."""
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for name, command in OFFLOADS.items():
            value = array.array("B", struct.pack("=II", command, 0))  # struct ethtool_value
            request = struct.pack("16sP", device.encode(), value.buffer_info()[0])  # struct ifreq
            with contextlib.suppress(OSError):
                fcntl.ioctl(sock, SIOCETHTOOL, request.ljust(40, b"\0"))
                found[name] = bool(struct.unpack("=II", value)[1])
    return found


def read_missed(device: str) -> int:
    """Return how many packets a device has lost before the host took them."""
    values = (read_line(STATISTICS / device / "statistics" / name) for name in MISSED)
    return sum(int(value) for value in values if value.isdecimal())


def read_received(device: str) -> int:
    """Return how many packets a device has received."""
    value = read_line(STATISTICS / device / "statistics" / "rx_packets")
    return int(value) if value.isdecimal() else 0
