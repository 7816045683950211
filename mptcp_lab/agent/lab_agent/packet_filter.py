"""Programs of classic BPF, which decide how many bytes of a packet the kernel copies (linux/filter.h)."""

from __future__ import annotations

import struct
from collections.abc import Sequence

LOAD_WORD, LOAD_HALF, LOAD_BYTE, LOAD_HALF_BEHIND_X = 0x20, 0x28, 0x30, 0x48
LOAD_HEADER_LENGTH_INTO_X = 0xB1  # X = 4 * (byte & 15)
JUMP_EQUAL, JUMP_SET, RETURN = 0x15, 0x45, 0x06
#: Offsets that are not in the packet: of its EtherType, and of its network header (SKF_AD_OFF, SKF_NET_OFF).
ETHERTYPE, NETWORK = -0x1000, -0x100000
ETH_P_IP, ETH_P_IPV6, IPPROTO_TCP = 0x0800, 0x86DD, 6
FRAGMENT_OFFSET = 0x1FFF
PORTS_MAX = 32  # jumps are at most 255 instructions long

#: Code, value, and the labels to jump to if a comparison holds and if it does not; "": the next instruction.
Step = tuple[int, int, str, str]


def keep_all(snaplen: int) -> list[bytes]:
    """Return the program that copies this many bytes of every packet, 0 for none."""
    return [_instruction(RETURN, snaplen)]


def keep_ports(ports: Sequence[int], snaplen: int) -> list[bytes]:
    """Return the program that copies this many bytes of TCP packets from or to these ports, at most 32.

    Offsets count from the network header, whatever the device's link layer is. A later fragment, and an IPv6
    packet with extension headers, are not copied.
    """
    version4: list[Step] = [
        (LOAD_BYTE, NETWORK + 9, "", ""),
        (JUMP_EQUAL, IPPROTO_TCP, "", "drop"),
        (LOAD_HALF, NETWORK + 6, "", ""),
        (JUMP_SET, FRAGMENT_OFFSET, "drop", ""),
        (LOAD_HEADER_LENGTH_INTO_X, NETWORK, "", ""),
        *_compare(LOAD_HALF_BEHIND_X, NETWORK, ports),
    ]
    version6: list[Step] = [
        (LOAD_BYTE, NETWORK + 6, "", ""),
        (JUMP_EQUAL, IPPROTO_TCP, "", "drop"),
        *_compare(LOAD_HALF, NETWORK + 40, ports),
    ]
    start: list[Step] = [
        (LOAD_WORD, ETHERTYPE, "", ""),
        (JUMP_EQUAL, ETH_P_IP, "version4", ""),
        (JUMP_EQUAL, ETH_P_IPV6, "version6", "drop"),
    ]
    steps = [*start, *version4, *version6, (RETURN, 0, "", ""), (RETURN, snaplen, "", "")]
    labels = {"version4": len(start), "version6": len(start) + len(version4)}
    labels.update(drop=len(steps) - 2, keep=len(steps) - 1)
    return [
        _instruction(code, value, *(labels[name] - at - 1 if name else 0 for name in names))
        for at, (code, value, *names) in enumerate(steps)
    ]


def _compare(load: int, offset: int, ports: Sequence[int]) -> list[Step]:
    """Return the steps that keep a packet with one of these ports at the offset or after it, else drop it."""
    wanted = list(ports)[:PORTS_MAX]
    tests: list[Step] = [(JUMP_EQUAL, port, "keep", "") for port in wanted]
    last: Step = (JUMP_EQUAL, wanted[-1], "keep", "drop")
    return [(load, offset, "", ""), *tests, (load, offset + 2, "", ""), *tests[:-1], last]


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """Return one instruction: a struct sock_filter."""
    return struct.pack("=HBBI", code, if_true, if_false, value & 0xFFFFFFFF)
