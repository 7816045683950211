"""Make malformed MPTCP options and TCP headers, the same ones in every run. Pure: no I/O."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from random import Random

from mptcp_lab.wire import (
    AddAddr,
    Dss,
    MpCapable,
    MpFail,
    MpFastclose,
    MpJoinAck,
    MpJoinSyn,
    MpPrio,
    MptcpOption,
    RemoveAddr,
    Segment,
    TcpRst,
    build_packet,
    internet_checksum,
)
from mptcp_lab.wire.codec import TcpOption
from mptcp_lab.wire.options.base import KIND

SEED = 8684
#: The longest options of a TCP header, in octets.
OPTIONS_OCTETS = 40
#: Where a packet without IP options has the length of its TCP header, and its TCP checksum.
OFFSET_AT, CHECKSUM_AT = 32, 36


@dataclass(frozen=True, slots=True)
class Octets(TcpOption):
    """Any octets in place of one option; `kind` is not encoded."""

    def encode(self) -> bytes:
        """Return the octets as they are."""
        return self.data


def make_random() -> Random:
    """Return a generator that makes the same choices in every run."""
    return Random(SEED)  # noqa: S311 - no secret depends on it


def well_formed(token: int = 0) -> tuple[MptcpOption, ...]:
    """Return an option of each subtype, to derive malformed ones from; `token` is that of the MP_JOIN."""
    somewhere = IPv4Address("192.0.2.1")
    return (
        MpCapable(),
        MpCapable(1, 2),
        MpCapable(1, 2, 5, 7),
        MpJoinSyn(3, token, 4),
        MpJoinAck(bytes(20)),
        Dss(1, 2, 3, 4, 5),
        Dss(1, 2, 0, 1, data_fin=True),
        AddAddr(5, somewhere, 80, hmac=bytes(8)),
        RemoveAddr((6, 7)),
        MpPrio(backup=True),
        MpFail(8),
        MpFastclose(9),
        TcpRst(1),
    )


def make_malformed(chance: Random, options: tuple[MptcpOption, ...], count: int) -> Iterator[Octets]:
    """Yield options that are cut off or doubled, or have a wrong length, a wrong subtype or changed bits."""
    changes = (_cut_off, _wrong_length, _wrong_subtype, _changed_bits, _repeat, _noise)
    for number in range(count):
        option = options[number % len(options)].encode()
        change = changes[chance.randrange(len(changes))]
        yield Octets(KIND, change(chance, option)[:OPTIONS_OCTETS])


def _cut_off(chance: Random, option: bytes) -> bytes:
    return option[: chance.randrange(1, len(option))]


def _wrong_length(chance: Random, option: bytes) -> bytes:
    wrong = chance.choice((0, 1, 2, 3, len(option) - 1, len(option) + 1, 40, 255))
    return option[:1] + bytes((wrong,)) + option[2:]


def _wrong_subtype(chance: Random, option: bytes) -> bytes:
    return option[:2] + bytes((chance.randrange(256),)) + option[3:]


def _changed_bits(chance: Random, option: bytes) -> bytes:
    changed = bytearray(option)
    for _ in range(chance.randrange(1, 9)):
        changed[chance.randrange(2, len(option))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _repeat(chance: Random, option: bytes) -> bytes:
    return option + _changed_bits(chance, option)


def _noise(chance: Random, option: bytes) -> bytes:
    return option[:2] + chance.randbytes(OPTIONS_OCTETS - 2)


def with_header_length(segment: Segment, words: int) -> bytes:
    """Return a packet whose TCP header claims to have so many words of 4 octets; its checksum is right."""
    packet = bytearray(build_packet(segment))
    packet[OFFSET_AT] = words << 4
    packet[CHECKSUM_AT : CHECKSUM_AT + 2] = bytes(2)
    tcp = bytes(packet[20:])
    pseudo = segment.src.packed + segment.dst.packed + struct.pack(">IHH", len(tcp), 0, 6)
    packet[CHECKSUM_AT : CHECKSUM_AT + 2] = struct.pack(">H", internet_checksum(pseudo + tcp))
    return bytes(packet)
