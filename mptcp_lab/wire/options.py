"""The MPTCP options of RFC 8684 as frozen dataclasses, one per form on the wire.

Each class decodes and encodes one form; `mptcp_lab.wire.codec` selects the class. Reserved bits are kept,
so that decoding and then encoding returns the same octets. Keys, tokens, nonces and sequence numbers are
unsigned integers in network order; HMACs are bytes. The name of a class ends in V0 if its form is that of
version 0 (RFC 6824) and differs on the wire.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from types import MappingProxyType
from typing import ClassVar, Self

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

#: MP_TCPRST reason codes (RFC 8684, 7.4).
RESET_REASONS: Mapping[int, str] = MappingProxyType(
    {
        0: "unspecified error",
        1: "MPTCP-specific error",
        2: "lack of resources",
        3: "administratively prohibited",
        4: "too much outstanding data",
        5: "unacceptable performance",
        6: "middlebox interference",
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


def _octets(name: str, value: int, count: int) -> bytes:
    return check_unsigned(name, value, 8 * count).to_bytes(count, "big")


def _exactly(name: str, value: bytes, count: int) -> bytes:
    if len(value) != count:
        raise ValueError(f"{name} has {len(value)} octets, needs {count}")
    return value


def _number(octets: bytes, start: int, count: int) -> int:
    return int.from_bytes(octets[start : start + count], "big")


def _expect(octets: bytes, name: str, *lengths: int) -> None:
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
        octets = _octets("reserved", check_unsigned("reserved", reserved, 12), 2)
        return self._frame(octets[0], octets[1:] + rest)


def _flag(octets: bytes) -> tuple[bool, int]:
    """Return the lowest bit of the third octet, and the three reserved bits above it."""
    return bool(octets[2] & 1), octets[2] >> 1 & 0x07


@dataclass(frozen=True, slots=True)
class MpCapable(MptcpOption):
    """MP_CAPABLE of version 1 and later (RFC 8684, 3.1, figure 4).

    The form depends on the fields that are set: no key for the SYN (length 4), the sender's key for the
    SYN/ACK (12), both keys for the third ACK (20), also `data_length` for the first data (22), and also
    `checksum` (24). `flags` is the octet with flags A to H.
    """

    SUBTYPE: ClassVar[int] = 0x0
    sender_key: int | None = None
    receiver_key: int | None = None
    data_length: int | None = None
    checksum: int | None = None
    flags: int = 0x01
    version: int = 1

    @property
    def checksum_required(self) -> bool:
        """Return flag A: the sender requires checksums."""
        return bool(self.flags & 0x80)

    @property
    def extensibility(self) -> bool:
        """Return flag B, the extensibility flag, which a sender of this version must not set."""
        return bool(self.flags & 0x40)

    @property
    def no_join_initial(self) -> bool:
        """Return flag C: the peer must not open further subflows to the sender's initial address and port."""
        return bool(self.flags & 0x20)

    @property
    def unassigned_flags(self) -> int:
        """Return flags D to G as a number of four bits."""
        return self.flags >> 1 & 0x0F

    @property
    def hmac_sha256(self) -> bool:
        """Return flag H: the crypto algorithm is HMAC-SHA256."""
        return bool(self.flags & 0x01)

    @classmethod
    def decode(cls, octets: bytes) -> Self:
        """Decode a whole option; raise MalformedOption if it has none of the five lengths."""
        size = len(octets)
        _expect(octets, "MP_CAPABLE", 4, 12, 20, 22, 24)
        return cls(
            sender_key=_number(octets, 4, 8) if size >= 12 else None,
            receiver_key=_number(octets, 12, 8) if size >= 20 else None,
            data_length=_number(octets, 20, 2) if size >= 22 else None,
            checksum=_number(octets, 22, 2) if size == 24 else None,
            flags=octets[3],
            version=octets[2] & 0x0F,
        )

    def encode(self) -> bytes:
        """Return the octets of the option.

        Raises:
            ValueError: a field is set without the fields before it, does not fit, or the version is 0.
        """
        if not 1 <= self.version <= 15:
            raise ValueError(f"version={self.version} is not 1 to 15; version 0 is MpCapableV0")
        out = _octets("flags", self.flags, 1)
        fields = (
            ("sender_key", self.sender_key, 8),
            ("receiver_key", self.receiver_key, 8),
            ("data_length", self.data_length, 2),
            ("checksum", self.checksum, 2),
        )
        present = [value is not None for _, value, _ in fields]
        if present != sorted(present, reverse=True):
            raise ValueError("MP_CAPABLE needs sender_key before receiver_key, data_length, checksum")
        for name, value, count in fields:
            if value is not None:
                out += _octets(name, value, count)
        return self._frame(self.version, out)


@dataclass(frozen=True, slots=True)
class MpCapableV0(MptcpOption):
    """MP_CAPABLE of version 0 (RFC 6824, 3.1): SYN and SYN/ACK (12), third ACK with both keys (20)."""

    SUBTYPE: ClassVar[int] = 0x0
    sender_key: int
    receiver_key: int | None = None
    flags: int = 0x01

    @classmethod
    def decode(cls, octets: bytes) -> Self:
        """Decode a whole option of version 0; raise MalformedOption if its length is neither 12 nor 20."""
        _expect(octets, "MP_CAPABLE version 0", 12, 20)
        receiver_key = _number(octets, 12, 8) if len(octets) == 20 else None
        return cls(_number(octets, 4, 8), receiver_key, octets[3])

    def encode(self) -> bytes:
        """Return the octets of the option; raise ValueError if a field does not fit."""
        out = _octets("flags", self.flags, 1) + _octets("sender_key", self.sender_key, 8)
        if self.receiver_key is not None:
            out += _octets("receiver_key", self.receiver_key, 8)
        return self._frame(0, out)


@dataclass(frozen=True, slots=True)
class MpJoinSyn(MptcpOption):
    """MP_JOIN on a SYN (RFC 8684, 3.2, figure 5): the receiver's token, the sender's address id and nonce."""

    SUBTYPE: ClassVar[int] = 0x1
    address_id: int
    token: int
    nonce: int
    backup: bool = False
    reserved: int = 0

    @classmethod
    def decode(cls, octets: bytes) -> Self:
        """Decode a whole option of length 12."""
        return cls(octets[3], _number(octets, 4, 4), _number(octets, 8, 4), *_flag(octets))

    def encode(self) -> bytes:
        """Return the octets of the option; raise ValueError if a field does not fit."""
        out = _octets("address_id", self.address_id, 1) + _octets("token", self.token, 4)
        return self._frame_with_flag(self.reserved, self.backup, out + _octets("nonce", self.nonce, 4))


@dataclass(frozen=True, slots=True)
class MpJoinSynAck(MptcpOption):
    """MP_JOIN on a SYN/ACK (RFC 8684, 3.2, figure 6): leftmost 64 bits of the HMAC, address id, nonce."""

    SUBTYPE: ClassVar[int] = 0x1
    address_id: int
    hmac: bytes
    nonce: int
    backup: bool = False
    reserved: int = 0

    @classmethod
    def decode(cls, octets: bytes) -> Self:
        """Decode a whole option of length 16."""
        return cls(octets[3], octets[4:12], _number(octets, 12, 4), *_flag(octets))

    def encode(self) -> bytes:
        """Return the octets of the option; raise ValueError if a field does not fit."""
        out = _octets("address_id", self.address_id, 1) + _exactly("hmac", self.hmac, 8)
        return self._frame_with_flag(self.reserved, self.backup, out + _octets("nonce", self.nonce, 4))


@dataclass(frozen=True, slots=True)
class MpJoinAck(MptcpOption):
    """MP_JOIN on the third packet (RFC 8684, 3.2, figure 7): the leftmost 160 bits of the HMAC."""

    SUBTYPE: ClassVar[int] = 0x1
    hmac: bytes
    reserved: int = 0

    @classmethod
    def decode(cls, octets: bytes) -> Self:
        """Decode a whole option of length 24."""
        return cls(octets[4:], _number(octets, 2, 2) & 0x0FFF)

    def encode(self) -> bytes:
        """Return the octets of the option; raise ValueError if a field does not fit."""
        return self._frame_with_reserved(self.reserved, _exactly("hmac", self.hmac, 20))


@dataclass(frozen=True, slots=True)
class Dss(MptcpOption):
    """DSS (RFC 8684, 3.3, figure 9): a DATA_ACK, a mapping, a DATA_FIN, or several of them.

    `data_ack` is None without flag A. `dsn`, `subflow_seq` (relative to the subflow's ISN) and `data_length`
    are None without flag M. `data_ack_octets` and `dsn_octets` are 4 or 8, as flags a and m select. An
    infinite mapping has `data_length` 0.
    """

    SUBTYPE: ClassVar[int] = 0x2
    data_ack: int | None = None
    dsn: int | None = None
    subflow_seq: int | None = None
    data_length: int | None = None
    checksum: int | None = None
    data_fin: bool = False
    data_ack_octets: int = 8
    dsn_octets: int = 8
    reserved: int = 0

    @classmethod
    def decode(cls, octets: bytes) -> Self:
        """Decode a whole option; raise MalformedOption if its length does not match its flags."""
        size = len(octets)
        if size < 4:
            raise MalformedOption(1, f"DSS has length {size}, needs at least 4")
        flags = octets[3]
        ack_octets = 8 if flags & 0x02 else 4
        dsn_octets = 8 if flags & 0x08 else 4
        at = 4
        data_ack = dsn = subflow_seq = data_length = checksum = None
        if flags & 0x01:
            data_ack = int.from_bytes(octets[at : at + ack_octets], "big")
            at += ack_octets
        if flags & 0x04:
            dsn = int.from_bytes(octets[at : at + dsn_octets], "big")
            at += dsn_octets
            subflow_seq = int.from_bytes(octets[at : at + 4], "big")
            data_length = int.from_bytes(octets[at + 4 : at + 6], "big")
            at += 6
            if size == at + 2:
                checksum = int.from_bytes(octets[at : at + 2], "big")
                at += 2
        if size != at:
            raise MalformedOption(1, f"DSS has length {size}, its flags {flags & 0x1F:#04x} need {at}")
        reserved = (octets[2] & 0x0F) << 3 | flags >> 5
        return cls(
            data_ack,
            dsn,
            subflow_seq,
            data_length,
            checksum,
            bool(flags & 0x10),
            ack_octets,
            dsn_octets,
            reserved,
        )

    def encode(self) -> bytes:
        """Return the octets of the option; raise ValueError if only a part of a mapping is set."""
        mapping = (self.dsn, self.subflow_seq, self.data_length)
        if None in mapping and (mapping != (None, None, None) or self.checksum is not None):
            raise ValueError("a mapping is dsn, subflow_seq and data_length together; checksum needs one")
        for name in ("data_ack_octets", "dsn_octets"):
            if getattr(self, name) not in (4, 8):
                raise ValueError(f"{name}={getattr(self, name)} is neither 4 nor 8")
        flags = self.data_fin << 4 | (self.dsn_octets == 8) << 3 | (self.data_ack_octets == 8) << 1
        out = b""
        if self.data_ack is not None:
            flags |= 0x01
            out += _octets("data_ack", self.data_ack, self.data_ack_octets)
        if self.dsn is not None and self.subflow_seq is not None and self.data_length is not None:
            flags |= 0x04
            out += _octets("dsn", self.dsn, self.dsn_octets) + _octets("subflow_seq", self.subflow_seq, 4)
            out += _octets("data_length", self.data_length, 2)
        if self.checksum is not None:
            out += _octets("checksum", self.checksum, 2)
        reserved = check_unsigned("reserved", self.reserved, 7)
        return self._frame(reserved >> 3, bytes(((reserved & 0x07) << 5 | flags,)) + out)


@dataclass(frozen=True, slots=True)
class AddAddr(MptcpOption):
    """ADD_ADDR (RFC 8684, 3.4.1, figure 12): an announcement with HMAC, or an echo (flag E) without."""

    SUBTYPE: ClassVar[int] = 0x3
    address_id: int
    address: IPv4Address | IPv6Address
    port: int | None = None
    hmac: bytes | None = None
    reserved: int = 0

    @property
    def echo(self) -> bool:
        """Return flag E: this option is an echo."""
        return self.hmac is None

    @classmethod
    def decode(cls, octets: bytes) -> Self:
        """Decode a whole option; raise MalformedOption if its length does not match flag E."""
        if octets[2] & 1:
            _expect(octets, "ADD_ADDR echo", 8, 10, 20, 22)
            address, port = _address(octets[4:])
            return cls(octets[3], address, port, None, octets[2] >> 1 & 0x07)
        _expect(octets, "ADD_ADDR", 16, 18, 28, 30)
        address, port = _address(octets[4:-8])
        return cls(octets[3], address, port, octets[-8:], octets[2] >> 1 & 0x07)

    def encode(self) -> bytes:
        """Return the octets of the option; raise ValueError if a field does not fit."""
        out = _octets("address_id", self.address_id, 1) + self.address.packed
        if self.port is not None:
            out += _octets("port", self.port, 2)
        if self.hmac is not None:
            out += _exactly("hmac", self.hmac, 8)
        return self._frame_with_flag(self.reserved, self.echo, out)


@dataclass(frozen=True, slots=True)
class AddAddrV0(MptcpOption):
    """ADD_ADDR of version 0 (RFC 6824, 3.4.1): the IP version in place of the flags, no HMAC."""

    SUBTYPE: ClassVar[int] = 0x3
    address_id: int
    address: IPv4Address | IPv6Address
    port: int | None = None

    @classmethod
    def decode(cls, octets: bytes) -> Self:
        """Decode a whole option; the caller has checked that its IP version matches its length."""
        address, port = _address(octets[4:])
        return cls(octets[3], address, port)

    def encode(self) -> bytes:
        """Return the octets of the option; raise ValueError if a field does not fit."""
        out = _octets("address_id", self.address_id, 1) + self.address.packed
        if self.port is not None:
            out += _octets("port", self.port, 2)
        return self._frame(self.address.version, out)


def _address(octets: bytes) -> tuple[IPv4Address | IPv6Address, int | None]:
    size = 4 if len(octets) < 16 else 16
    address = IPv4Address(octets[:4]) if size == 4 else IPv6Address(octets[:16])
    port = _number(octets, size, 2) if len(octets) > size else None
    return address, port


@dataclass(frozen=True, slots=True)
class RemoveAddr(MptcpOption):
    """REMOVE_ADDR (RFC 8684, 3.4.2, figure 13): one or more address ids."""

    SUBTYPE: ClassVar[int] = 0x4
    address_ids: tuple[int, ...]
    reserved: int = 0

    @classmethod
    def decode(cls, octets: bytes) -> Self:
        """Decode a whole option; raise MalformedOption if it has no address id."""
        if len(octets) < 4:
            raise MalformedOption(1, "REMOVE_ADDR names no address id")
        return cls(tuple(octets[3:]), octets[2] & 0x0F)

    def encode(self) -> bytes:
        """Return the octets of the option; raise ValueError if there is no address id."""
        if not self.address_ids:
            raise ValueError("REMOVE_ADDR needs at least one address id")
        ids = b"".join(_octets("address_id", each, 1) for each in self.address_ids)
        return self._frame(check_unsigned("reserved", self.reserved, 4), ids)


@dataclass(frozen=True, slots=True)
class MpPrio(MptcpOption):
    """MP_PRIO (RFC 8684, 3.3.8, figure 11): the backup state of the subflow that carries it."""

    SUBTYPE: ClassVar[int] = 0x5
    backup: bool
    reserved: int = 0

    @classmethod
    def decode(cls, octets: bytes) -> Self:
        """Decode a whole option of length 3."""
        return cls(*_flag(octets))

    def encode(self) -> bytes:
        """Return the octets of the option; raise ValueError if a field does not fit."""
        return self._frame_with_flag(self.reserved, self.backup, b"")


@dataclass(frozen=True, slots=True)
class MpPrioV0(MptcpOption):
    """MP_PRIO with an address id, which version 1 no longer has (RFC 6824, 3.3.8)."""

    SUBTYPE: ClassVar[int] = 0x5
    backup: bool
    address_id: int
    reserved: int = 0

    @classmethod
    def decode(cls, octets: bytes) -> Self:
        """Decode a whole option of length 4."""
        backup, reserved = _flag(octets)
        return cls(backup, octets[3], reserved)

    def encode(self) -> bytes:
        """Return the octets of the option; raise ValueError if a field does not fit."""
        return self._frame_with_flag(self.reserved, self.backup, _octets("address_id", self.address_id, 1))


@dataclass(frozen=True, slots=True)
class MpFail(MptcpOption):
    """MP_FAIL (RFC 8684, 3.7, figure 16): the DSN at which a checksum failed."""

    SUBTYPE: ClassVar[int] = 0x6
    dsn: int
    reserved: int = 0

    @classmethod
    def decode(cls, octets: bytes) -> Self:
        """Decode a whole option of length 12."""
        _expect(octets, "MP_FAIL", 12)
        return cls(_number(octets, 4, 8), _number(octets, 2, 2) & 0x0FFF)

    def encode(self) -> bytes:
        """Return the octets of the option; raise ValueError if a field does not fit."""
        return self._frame_with_reserved(self.reserved, _octets("dsn", self.dsn, 8))


@dataclass(frozen=True, slots=True)
class MpFastclose(MptcpOption):
    """MP_FASTCLOSE (RFC 8684, 3.5, figure 14): carries the key of the receiving host."""

    SUBTYPE: ClassVar[int] = 0x7
    receiver_key: int
    reserved: int = 0

    @classmethod
    def decode(cls, octets: bytes) -> Self:
        """Decode a whole option of length 12."""
        _expect(octets, "MP_FASTCLOSE", 12)
        return cls(_number(octets, 4, 8), _number(octets, 2, 2) & 0x0FFF)

    def encode(self) -> bytes:
        """Return the octets of the option; raise ValueError if a field does not fit."""
        return self._frame_with_reserved(self.reserved, _octets("receiver_key", self.receiver_key, 8))


@dataclass(frozen=True, slots=True)
class TcpRst(MptcpOption):
    """MP_TCPRST (RFC 8684, 3.6, figure 15): why a subflow was reset, and if that is transient."""

    SUBTYPE: ClassVar[int] = 0x8
    reason: int
    transient: bool = False
    reserved: int = 0

    @property
    def reason_name(self) -> str:
        """Return the registered meaning of `reason`, or `unassigned`."""
        return RESET_REASONS.get(self.reason, "unassigned")

    @classmethod
    def decode(cls, octets: bytes) -> Self:
        """Decode a whole option of length 4."""
        _expect(octets, "MP_TCPRST", 4)
        return cls(octets[3], *_flag(octets))

    def encode(self) -> bytes:
        """Return the octets of the option; raise ValueError if a field does not fit."""
        return self._frame_with_flag(self.reserved, self.transient, _octets("reason", self.reason, 1))


@dataclass(frozen=True, slots=True)
class Experimental(MptcpOption):
    """MP_EXPERIMENTAL, subtype 0xf for private use: four flag bits, and the octets after them."""

    SUBTYPE: ClassVar[int] = 0xF
    data: bytes
    flags: int = 0

    @classmethod
    def decode(cls, octets: bytes) -> Self:
        """Decode a whole option."""
        return cls(octets[3:], octets[2] & 0x0F)

    def encode(self) -> bytes:
        """Return the octets of the option; raise ValueError if `data` is longer than 252 octets."""
        if len(self.data) > 252:
            raise ValueError(f"data has {len(self.data)} octets, at most 252 fit")
        return self._frame(check_unsigned("flags", self.flags, 4), self.data)
