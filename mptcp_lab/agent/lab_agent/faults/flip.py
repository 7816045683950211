"""The fault that changes payload bytes and corrects the TCP checksum."""

from __future__ import annotations

import struct
from typing import Any

from ..kernel.netlink import NLA_F_NESTED, NLM_F_ACK, Netlink, pack_attr
from ..tools import run_tool
from .packets import packet_fault
from .plan import Plan

NETLINK_NETFILTER, NFPROTO_INET = 12, 1
NFNL_BATCH_BEGIN, NFNL_BATCH_END, NFNL_SUBSYS_NFTABLES, NFT_MSG_NEWRULE = 0x10, 0x11, 10, 6
NLM_F_CREATE, NLM_F_APPEND = 0x400, 0x800
# include/uapi/linux/netfilter/nf_tables.h
RULE_TABLE, RULE_CHAIN, RULE_EXPRESSIONS = 1, 2, 4
LIST_ELEM, EXPR_NAME, EXPR_DATA, DATA_VALUE = 1, 1, 2, 1
PAYLOAD_DREG, PAYLOAD_BASE, PAYLOAD_OFFSET, PAYLOAD_LEN = 1, 2, 3, 4
PAYLOAD_SREG, PAYLOAD_CSUM_TYPE, PAYLOAD_CSUM_OFFSET = 5, 6, 7
BITWISE_SREG, BITWISE_DREG, BITWISE_LEN, BITWISE_MASK, BITWISE_XOR = 1, 2, 3, 4, 5
TRANSPORT_HEADER, REGISTER, CSUM_INET = 2, 1, 1
TCP_CHECKSUM_OFFSET = 16
DOFFS = range(5, 16)  # TCP header lengths in words


def _be32(kind: int, value: int) -> bytes:
    return pack_attr(kind, struct.pack("!I", value))


def _nest(kind: int, *attrs: bytes) -> bytes:
    return pack_attr(kind | NLA_F_NESTED, b"".join(attrs))


def add_flip_rule(table: str, chain: str, offset: int, mask: bytes) -> None:
    """Append a rule that XORs the two bytes at `offset` of the TCP segment and updates the checksum.

    The kernel can update the checksum of a raw payload (nft_payload), but the nft tool has no syntax for it.
    """
    where = _be32(PAYLOAD_BASE, TRANSPORT_HEADER) + _be32(PAYLOAD_OFFSET, offset)
    where += _be32(PAYLOAD_LEN, len(mask))
    registers = _be32(BITWISE_SREG, REGISTER) + _be32(BITWISE_DREG, REGISTER) + _be32(BITWISE_LEN, len(mask))
    keep_all = _nest(BITWISE_MASK, pack_attr(DATA_VALUE, b"\xff" * len(mask)))
    fix_checksum = _be32(PAYLOAD_CSUM_TYPE, CSUM_INET) + _be32(PAYLOAD_CSUM_OFFSET, TCP_CHECKSUM_OFFSET)
    expressions = (
        ("payload", _be32(PAYLOAD_DREG, REGISTER) + where),
        ("bitwise", registers + keep_all + _nest(BITWISE_XOR, pack_attr(DATA_VALUE, mask))),
        ("payload", where + _be32(PAYLOAD_SREG, REGISTER) + fix_checksum),
    )
    elements = [
        _nest(LIST_ELEM, pack_attr(EXPR_NAME, name.encode() + b"\0"), _nest(EXPR_DATA, data))
        for name, data in expressions
    ]
    rule = pack_attr(RULE_TABLE, table.encode() + b"\0") + pack_attr(RULE_CHAIN, chain.encode() + b"\0")
    rule += _nest(RULE_EXPRESSIONS, *elements)
    batch = struct.pack("!BBH", 0, 0, NFNL_SUBSYS_NFTABLES)
    new_rule = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWRULE
    messages = (
        (NFNL_BATCH_BEGIN, 0, batch),
        (
            new_rule,
            NLM_F_CREATE | NLM_F_APPEND | NLM_F_ACK,
            struct.pack("!BBH", NFPROTO_INET, 0, 0) + rule,
        ),
        (NFNL_BATCH_END, 0, batch),
    )
    with Netlink(NETLINK_NETFILTER) as netlink:
        netlink.send(messages)
        netlink.receive()


def plan_flip(
    fault: str, position: int = 0, mask: int = 0xFF, direction: str = "forward", every: int = 1, **match: Any
) -> Plan:
    """Plan to XOR the payload byte at `position` of each segment with `mask`, and to correct the checksum.

    `every` = n changes every n-th segment only. Shorter segments pass unchanged. There is one chain per TCP
    header length, because the payload's offset depends on it.
    """
    chosen = f"numgen inc mod {int(every)} 0 " if every > 1 else ""
    jumps = ", ".join(f"{words} : jump doff{words}" for words in DOFFS)
    plan = packet_fault(fault, f"{chosen}tcp doff vmap {{ {jumps} }}", direction, match)
    # Two bytes, because the checksum is a sum of 16-bit words.
    pair = bytes([0, mask]) if position % 2 else bytes([mask, 0])
    create = plan.apply

    def apply() -> None:
        lines = [f"add table inet {plan.touches}"] + [f"add chain inet {plan.touches} doff{n}" for n in DOFFS]
        run_tool(["nft", "-f", "-"], "\n".join(lines))
        for words in DOFFS:
            add_flip_rule(plan.touches, f"doff{words}", words * 4 + position - position % 2, pair)
        create()

    return Plan(plan.touches, plan.undo, apply)
