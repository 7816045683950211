"""MP_JOIN, the option of a further subflow's handshake, in its three forms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from mptcp_lab.wire.options.base import MptcpOption, check_length, encode_number, read_flag, read_number


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
        return cls(octets[3], read_number(octets, 4, 4), read_number(octets, 8, 4), *read_flag(octets))

    def encode(self) -> bytes:
        """Return the octets of the option; raise ValueError if a field does not fit."""
        out = encode_number("address_id", self.address_id, 1) + encode_number("token", self.token, 4)
        return self._frame_with_flag(self.reserved, self.backup, out + encode_number("nonce", self.nonce, 4))


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
        return cls(octets[3], octets[4:12], read_number(octets, 12, 4), *read_flag(octets))

    def encode(self) -> bytes:
        """Return the octets of the option; raise ValueError if a field does not fit."""
        out = encode_number("address_id", self.address_id, 1) + check_length("hmac", self.hmac, 8)
        return self._frame_with_flag(self.reserved, self.backup, out + encode_number("nonce", self.nonce, 4))


@dataclass(frozen=True, slots=True)
class MpJoinAck(MptcpOption):
    """MP_JOIN on the third packet (RFC 8684, 3.2, figure 7): the leftmost 160 bits of the HMAC."""

    SUBTYPE: ClassVar[int] = 0x1
    hmac: bytes
    reserved: int = 0

    @classmethod
    def decode(cls, octets: bytes) -> Self:
        """Decode a whole option of length 24."""
        return cls(octets[4:], read_number(octets, 2, 2) & 0x0FFF)

    def encode(self) -> bytes:
        """Return the octets of the option; raise ValueError if a field does not fit."""
        return self._frame_with_reserved(self.reserved, check_length("hmac", self.hmac, 20))
