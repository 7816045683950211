"""DSS, the option that maps data and acknowledges it, and MP_PRIO, which makes a subflow a backup."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from mptcp_lab.wire.options.base import MalformedOption, MptcpOption, check_unsigned, encode_number, read_flag


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
            out += encode_number("data_ack", self.data_ack, self.data_ack_octets)
        if self.dsn is not None and self.subflow_seq is not None and self.data_length is not None:
            flags |= 0x04
            out += encode_number("dsn", self.dsn, self.dsn_octets) + encode_number(
                "subflow_seq", self.subflow_seq, 4
            )
            out += encode_number("data_length", self.data_length, 2)
        if self.checksum is not None:
            out += encode_number("checksum", self.checksum, 2)
        reserved = check_unsigned("reserved", self.reserved, 7)
        return self._frame(reserved >> 3, bytes(((reserved & 0x07) << 5 | flags,)) + out)


@dataclass(frozen=True, slots=True)
class MpPrio(MptcpOption):
    """MP_PRIO (RFC 8684, 3.3.8, figure 11): the backup state of the subflow that carries it."""

    SUBTYPE: ClassVar[int] = 0x5
    backup: bool
    reserved: int = 0

    @classmethod
    def decode(cls, octets: bytes) -> Self:
        """Decode a whole option of length 3."""
        return cls(*read_flag(octets))

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
        backup, reserved = read_flag(octets)
        return cls(backup, octets[3], reserved)

    def encode(self) -> bytes:
        """Return the octets of the option; raise ValueError if a field does not fit."""
        return self._frame_with_flag(
            self.reserved, self.backup, encode_number("address_id", self.address_id, 1)
        )
