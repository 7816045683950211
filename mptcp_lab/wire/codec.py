"""Decode and encode TCP options: one MPTCP option, or all options of a TCP header."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from mptcp_lab.wire.options.addresses import AddAddr, AddAddrV0, RemoveAddr
from mptcp_lab.wire.options.base import KIND, MalformedOption, MptcpOption
from mptcp_lab.wire.options.data import Dss, MpPrio, MpPrioV0
from mptcp_lab.wire.options.ending import MpFail, MpFastclose, TcpRst
from mptcp_lab.wire.options.experimental import Experimental
from mptcp_lab.wire.options.handshake import MpCapable, MpCapableV0
from mptcp_lab.wire.options.joins import MpJoinAck, MpJoinSyn, MpJoinSynAck

#: Option kinds of RFC 9293, 2018 and 7323.
END, NOP, MSS, WINDOW_SCALE, SACK_PERMITTED, SACK, TIMESTAMPS = 0, 1, 2, 3, 4, 5, 8


@dataclass(frozen=True, slots=True)
class TcpOption:
    """A TCP option other than MPTCP: its kind, and the octets after kind and length.

    For kind 0 (end of options) `data` is the padding that follows. NOP has no data. A caller may encode any
    octets as kind 30 (MPTCP); decoding never returns a `TcpOption` of kind 30.
    """

    kind: int
    data: bytes = b""

    def encode(self) -> bytes:
        """Return the octets of the whole option; raise ValueError if kind or length do not fit."""
        if self.kind == END:
            return bytes((END,)) + self.data
        most = 0 if self.kind == NOP else 253
        if not 0 <= self.kind <= 255 or len(self.data) > most:
            raise ValueError(f"TCP option kind={self.kind} with {len(self.data)} octets does not fit")
        if self.kind == NOP:
            return bytes((NOP,))
        return bytes((self.kind, 2 + len(self.data))) + self.data


Option = MptcpOption | TcpOption


def _capable(octets: bytes) -> MptcpOption:
    if len(octets) > 3 and octets[2] & 0x0F == 0:
        return MpCapableV0.decode(octets)
    return MpCapable.decode(octets)


def _join(octets: bytes) -> MptcpOption:
    forms: dict[int, Callable[[bytes], MptcpOption]] = {
        12: MpJoinSyn.decode,
        16: MpJoinSynAck.decode,
        24: MpJoinAck.decode,
    }
    form = forms.get(len(octets))
    if form is None:
        raise MalformedOption(1, f"MP_JOIN has length {len(octets)}, allowed: 12, 16, 24")
    return form(octets)


# Lengths and IP versions of an ADD_ADDR of RFC 6824, which has the IP version in the four bits that hold flag
# E in RFC 8684. With version 4 or 6 flag E is clear, but the length is that of an echo. Version 1 has no such
# form, so the two cannot be confused.
_V0_LENGTHS = MappingProxyType({8: 4, 10: 4, 20: 6, 22: 6})


def _add_addr(octets: bytes) -> MptcpOption:
    if len(octets) > 3 and _V0_LENGTHS.get(len(octets)) == octets[2] & 0x0F:
        return AddAddrV0.decode(octets)
    return AddAddr.decode(octets)


def _prio(octets: bytes) -> MptcpOption:
    if len(octets) == 4:
        return MpPrioV0.decode(octets)
    if len(octets) != 3:
        raise MalformedOption(1, f"MP_PRIO has length {len(octets)}, allowed: 3 (version 0: 4)")
    return MpPrio.decode(octets)


_DECODERS: Mapping[int, Callable[[bytes], MptcpOption]] = MappingProxyType(
    {
        0x0: _capable,
        0x1: _join,
        0x2: Dss.decode,
        0x3: _add_addr,
        0x4: RemoveAddr.decode,
        0x5: _prio,
        0x6: MpFail.decode,
        0x7: MpFastclose.decode,
        0x8: TcpRst.decode,
        0xF: Experimental.decode,
    }
)


def decode_mptcp(data: bytes) -> MptcpOption:
    """Decode one MPTCP option, kind and length included; subtype and length select the form.

    Raises:
        MalformedOption: the octets are not exactly one option of RFC 8684 (or a form of RFC 6824).
    """
    data = bytes(data)
    if len(data) < 3:
        raise MalformedOption(len(data), f"an MPTCP option has at least 3 octets, here are {len(data)}")
    if data[0] != KIND:
        raise MalformedOption(0, f"kind {data[0]} is not MPTCP's {KIND}")
    if data[1] != len(data):
        raise MalformedOption(1, f"the length octet is {data[1]}, the option has {len(data)} octets")
    decoder = _DECODERS.get(data[2] >> 4)
    if decoder is None:
        raise MalformedOption(2, f"subtype {data[2] >> 4:#x} is not assigned")
    return decoder(data)


def split_options(tcp_options: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield each option of a TCP header as (offset, octets), not decoded; kind 0 includes its padding.

    Raises:
        MalformedOption: a length octet is missing, is below 2, or points past the end.
    """
    at, end = 0, len(tcp_options)
    while at < end:
        kind = tcp_options[at]
        if kind == END:
            yield at, tcp_options[at:]
            return
        if kind == NOP:
            size = 1
        elif at + 1 == end:
            raise MalformedOption(at + 1, f"option kind {kind} has no length octet")
        else:
            size = tcp_options[at + 1]
            if size < 2:
                raise MalformedOption(at + 1, f"option kind {kind} has length {size}, below 2")
            if at + size > end:
                raise MalformedOption(
                    at + 1, f"option kind {kind} has length {size}, only {end - at} octets left"
                )
        yield at, tcp_options[at : at + size]
        at += size


def decode_option(octets: bytes, offset: int = 0) -> Option:
    """Decode one option that `split_options` returned; a MalformedOption counts from `offset`."""
    kind = octets[0]
    if kind == KIND:
        try:
            return decode_mptcp(octets)
        except MalformedOption as error:
            raise MalformedOption(offset + error.offset, error.reason) from None
    return TcpOption(kind, octets[1:] if kind == END else octets[2:])


def decode_options(tcp_options: bytes) -> list[Option]:
    """Decode all options of a TCP header, in order; raise MalformedOption at the first bad option."""
    return [decode_option(octets, offset) for offset, octets in split_options(bytes(tcp_options))]


def encode_options(options: Iterable[Option]) -> bytes:
    """Encode options in order, padded with zeros to a multiple of 4; raise ValueError above 40 octets."""
    out = b"".join(option.encode() for option in options)
    out += bytes(-len(out) % 4)
    if len(out) > 40:
        raise ValueError(f"the options need {len(out)} octets, a TCP header has room for 40")
    return out
