"""The common part of all MPTCP options: the base class, the names of subtypes, and how fields become octets.

Reserved bits are kept, so that decoding and then encoding returns the same octets. Keys, tokens, nonces and
sequence numbers are unsigned integers in network order; HMACs are bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

#: TCP option kind of MPTCP (RFC 8684, 7.1).
KIND = 30

#: Option subtypes (RFC 8684, 7.2).
SUBTYPES: Mapping[int, str] = MappingProxyType(
    {
        0x0: "MP_CAPABLE",
        0x1: "MP_JOIN",
        0x2: "DSS",
        0x3: "ADD_ADDR",
        0x4: "REMOVE_ADDR",
        0x5: "MP_PRIO",
        0x6: "MP_FAIL",
        0x7: "MP_FASTCLOSE",
        0x8: "MP_TCPRST",
        0xF: "MP_EXPERIMENTAL",
    }
)


class MalformedOption(ValueError):
    """Octets that are not a valid TCP or MPTCP option: `offset` of the first bad octet, and the `reason`."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(f"octet {offset}: {reason}")
        self.offset = offset
        self.reason = reason


def check_unsigned(name: str, value: int, bits: int) -> int:
    """Return `value`; raise ValueError if it does not fit in `bits` as an unsigned number."""
    if not 0 <= value < 1 << bits:
        raise ValueError(f"{name}={value} does not fit in {bits} bits")
    return value


def encode_number(name: str, value: int, count: int) -> bytes:
    """Return `value` as so many octets; raise ValueError if it does not fit in them."""
    return check_unsigned(name, value, 8 * count).to_bytes(count, "big")


def check_length(name: str, value: bytes, count: int) -> bytes:
    """Return `value`; raise ValueError unless it has so many octets."""
    if len(value) != count:
        raise ValueError(f"{name} has {len(value)} octets, needs {count}")
    return value


def read_number(octets: bytes, start: int, count: int) -> int:
    """Return the unsigned number in so many octets from `start` on."""
    return int.from_bytes(octets[start : start + count], "big")


def check_size(octets: bytes, name: str, *lengths: int) -> None:
    """Raise MalformedOption unless an option has one of these lengths."""
    if len(octets) not in lengths:
        allowed = ", ".join(map(str, lengths))
        raise MalformedOption(1, f"{name} has length {len(octets)}, allowed: {allowed}")


@dataclass(frozen=True, slots=True)
class MptcpOption:
    """Base of all forms: kind 30, a length, and a subtype in the upper four bits of the third octet."""

    SUBTYPE: ClassVar[int]

    @property
    def name(self) -> str:
        """Return the RFC's name of the option, such as MP_CAPABLE."""
        return SUBTYPES[self.SUBTYPE]

    def encode(self) -> bytes:
        """Return the option's octets with kind and length; raise ValueError if a field does not fit."""
        raise NotImplementedError

    def _frame(self, nibble: int, rest: bytes) -> bytes:
        return bytes((KIND, 3 + len(rest), self.SUBTYPE << 4 | nibble)) + rest

    def _frame_with_flag(self, reserved: int, flag: bool, rest: bytes) -> bytes:
        """Return the option with three reserved bits and a flag before the rest."""
        return self._frame(check_unsigned("reserved", reserved, 3) << 1 | flag, rest)

    def _frame_with_reserved(self, reserved: int, rest: bytes) -> bytes:
        """Return the option with twelve reserved bits before the rest."""
        octets = encode_number("reserved", check_unsigned("reserved", reserved, 12), 2)
        return self._frame(octets[0], octets[1:] + rest)


def read_flag(octets: bytes) -> tuple[bool, int]:
    """Return the lowest bit of the third octet, and the three reserved bits above it."""
    return bool(octets[2] & 1), octets[2] >> 1 & 0x07
