"""MP_CAPABLE, the option of the first handshake, in the forms of version 1 and of version 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from mptcp_lab.wire.options.base import MptcpOption, check_size, encode_number, read_number


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
        check_size(octets, "MP_CAPABLE", 4, 12, 20, 22, 24)
        return cls(
            sender_key=read_number(octets, 4, 8) if size >= 12 else None,
            receiver_key=read_number(octets, 12, 8) if size >= 20 else None,
            data_length=read_number(octets, 20, 2) if size >= 22 else None,
            checksum=read_number(octets, 22, 2) if size == 24 else None,
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
        out = encode_number("flags", self.flags, 1)
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
                out += encode_number(name, value, count)
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
        check_size(octets, "MP_CAPABLE version 0", 12, 20)
        receiver_key = read_number(octets, 12, 8) if len(octets) == 20 else None
        return cls(read_number(octets, 4, 8), receiver_key, octets[3])

    def encode(self) -> bytes:
        """Return the octets of the option; raise ValueError if a field does not fit."""
        out = encode_number("flags", self.flags, 1) + encode_number("sender_key", self.sender_key, 8)
        if self.receiver_key is not None:
            out += encode_number("receiver_key", self.receiver_key, 8)
        return self._frame(0, out)
