"""MP_EXPERIMENTAL, the option for private use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from mptcp_lab.wire.options.base import MptcpOption, check_unsigned


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
