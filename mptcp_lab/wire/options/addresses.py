"""ADD_ADDR and REMOVE_ADDR, the options that announce and withdraw addresses."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import ClassVar, Self

from mptcp_lab.wire.options.base import (
    MalformedOption,
    MptcpOption,
    check_length,
    check_size,
    check_unsigned,
    encode_number,
    read_number,
)


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
            check_size(octets, "ADD_ADDR echo", 8, 10, 20, 22)
            address, port = _address(octets[4:])
            return cls(octets[3], address, port, None, octets[2] >> 1 & 0x07)
        check_size(octets, "ADD_ADDR", 16, 18, 28, 30)
        address, port = _address(octets[4:-8])
        return cls(octets[3], address, port, octets[-8:], octets[2] >> 1 & 0x07)

    def encode(self) -> bytes:
        """Return the octets of the option; raise ValueError if a field does not fit."""
        out = encode_number("address_id", self.address_id, 1) + self.address.packed
        if self.port is not None:
            out += encode_number("port", self.port, 2)
        if self.hmac is not None:
            out += check_length("hmac", self.hmac, 8)
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
        out = encode_number("address_id", self.address_id, 1) + self.address.packed
        if self.port is not None:
            out += encode_number("port", self.port, 2)
        return self._frame(self.address.version, out)


def _address(octets: bytes) -> tuple[IPv4Address | IPv6Address, int | None]:
    size = 4 if len(octets) < 16 else 16
    address = IPv4Address(octets[:4]) if size == 4 else IPv6Address(octets[:16])
    port = read_number(octets, size, 2) if len(octets) > size else None
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
        ids = b"".join(encode_number("address_id", each, 1) for each in self.address_ids)
        return self._frame(check_unsigned("reserved", self.reserved, 4), ids)
