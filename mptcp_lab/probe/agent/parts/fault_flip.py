"""The fault that flips payload, with the TCP checksum made right."""

from __future__ import annotations

import struct
from typing import Any

from .fault_packets import packet_fault
from .fault_plan import Plan
from .netlink import NLA_F_NESTED, NLM_F_ACK, Netlink, pack_attr
from .tools import run_tool

NFNL_BATCH_BEGIN, NFNL_BATCH_END, NFT_NEWRULE, NFPROTO_INET, NETLINK_NETFILTER = (
    0x10,
    0x11,
    (10 << 8) | 6,
    1,
    12,
)
NLM_F_CREATE, NLM_F_APPEND = 0x400, 0x800
DOFFS = range(5, 16)  # TCP header lengths in words
TRANSPORT_BASE, REGISTER, CHECKSUM_INET, TCP_CHECKSUM_OFFSET = 2, 1, 1, 16


def _be32(kind: int, value: int) -> bytes:
    return pack_attr(kind, struct.pack("!I", value))


def _nest(kind: int, *attrs: bytes) -> bytes:
    return pack_attr(kind | NLA_F_NESTED, b"".join(attrs))


def add_flip_rule(table: str, chain: str, offset: int, mask: bytes) -> None:
    """Append a rule that XORs two bytes at `offset` of the TCP segment and mends the checksum.

    The nft tool cannot say "mend the checksum of a raw payload", the kernel can (nft_payload).
    """
    where = _be32(2, TRANSPORT_BASE) + _be32(3, offset) + _be32(4, len(mask))
    zero = _nest(4, pack_attr(1, b"\xff" * len(mask)))
    expressions = (
        ("payload", _be32(1, REGISTER) + where),
        (
            "bitwise",
            _be32(1, REGISTER)
            + _be32(2, REGISTER)
            + _be32(3, len(mask))
            + zero
            + _nest(5, pack_attr(1, mask)),
        ),
        ("payload", where + _be32(5, REGISTER) + _be32(6, CHECKSUM_INET) + _be32(7, TCP_CHECKSUM_OFFSET)),
    )
    elements = [_nest(1, pack_attr(1, name.encode() + b"\0"), _nest(2, data)) for name, data in expressions]
    rule = pack_attr(1, table.encode() + b"\0") + pack_attr(2, chain.encode() + b"\0") + _nest(4, *elements)
    batch = struct.pack("!BBH", 0, 0, 10)
    flags = NLM_F_CREATE | NLM_F_APPEND
    messages = (
        (NFNL_BATCH_BEGIN, 0, batch),
        (NFT_NEWRULE, flags | NLM_F_ACK, struct.pack("!BBH", NFPROTO_INET, 0, 0) + rule),
        (NFNL_BATCH_END, 0, batch),
    )
    with Netlink(NETLINK_NETFILTER) as netlink:
        netlink.send(messages)
        netlink.receive()


def plan_flip(
    fault: str, position: int = 0, mask: int = 0xFF, direction: str = "forward", every: int = 1, **match: Any
) -> Plan:
    """XOR the payload byte at `position` of every n-th segment with `mask`; the TCP checksum is made right.

    Shorter segments pass unchanged. There is a chain per TCP header length, as that moves the payload.
    """
    chosen = f"numgen inc mod {int(every)} 0 " if every > 1 else ""
    jumps = ", ".join(f"{words} : jump doff{words}" for words in DOFFS)
    plan = packet_fault(fault, f"{chosen}tcp doff vmap {{ {jumps} }}", direction, match)
    # two bytes, as the kernel sums 16-bit words
    pair = bytes([0, mask]) if position % 2 else bytes([mask, 0])
    create = plan.apply

    def apply() -> None:
        lines = [f"add table inet {plan.touches}"] + [f"add chain inet {plan.touches} doff{n}" for n in DOFFS]
        run_tool(["nft", "-f", "-"], "\n".join(lines))
        for words in DOFFS:
            add_flip_rule(plan.touches, f"doff{words}", words * 4 + position - position % 2, pair)
        create()

    return Plan(plan.touches, plan.undo, apply)
