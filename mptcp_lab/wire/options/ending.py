"""MP_FAIL, MP_FASTCLOSE and MP_TCPRST, the options with which subflows and connections end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Self

from mptcp_lab.wire.options.base import MptcpOption, check_size, encode_number, read_flag, read_number

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


@dataclass(frozen=True, slots=True)
class MpFail(MptcpOption):
    """MP_FAIL (RFC 8684, 3.7, figure 16): the DSN at which a checksum failed."""

    SUBTYPE: ClassVar[int] = 0x6
    dsn: int
    reserved: int = 0

    @classmethod
    def decode(cls, octets: bytes) -> Self:
        """Decode a whole option of length 12."""
        check_size(octets, "MP_FAIL", 12)
        return cls(read_number(octets, 4, 8), read_number(octets, 2, 2) & 0x0FFF)

    def encode(self) -> bytes:
        """Return the octets of the option; raise ValueError if a field does not fit."""
        return self._frame_with_reserved(self.reserved, encode_number("dsn", self.dsn, 8))


@dataclass(frozen=True, slots=True)
class MpFastclose(MptcpOption):
    """MP_FASTCLOSE (RFC 8684, 3.5, figure 14): carries the key of the receiving host."""

    SUBTYPE: ClassVar[int] = 0x7
    receiver_key: int
    reserved: int = 0

    @classmethod
    def decode(cls, octets: bytes) -> Self:
        """Decode a whole option of length 12."""
        check_size(octets, "MP_FASTCLOSE", 12)
        return cls(read_number(octets, 4, 8), read_number(octets, 2, 2) & 0x0FFF)

    def encode(self) -> bytes:
        """Return the octets of the option; raise ValueError if a field does not fit."""
        return self._frame_with_reserved(self.reserved, encode_number("receiver_key", self.receiver_key, 8))


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
        check_size(octets, "MP_TCPRST", 4)
        return cls(octets[3], *read_flag(octets))

    def encode(self) -> bytes:
        """Return the octets of the option; raise ValueError if a field does not fit."""
        return self._frame_with_flag(self.reserved, self.transient, encode_number("reason", self.reason, 1))
