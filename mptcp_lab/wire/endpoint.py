"""A user-space MPTCP peer, client or server: what it knows, and the packets and options that follow. Pure.

A `Leg` is one of its subflows and keeps sequence numbers; an `Endpoint` is its connection and keeps keys and
DSNs. Both do things right: whoever wants a wrong packet writes the wrong option into it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address
from secrets import randbits

from mptcp_lab.wire import keys
from mptcp_lab.wire.codec import Option
from mptcp_lab.wire.options import (
    AddAddr,
    Dss,
    MpCapable,
    MpFastclose,
    MpJoinAck,
    MpJoinSyn,
    MpJoinSynAck,
)
from mptcp_lab.wire.packet import FIN, SYN, Segment

WINDOW = 65535
_32, _64 = 1 << 32, 1 << 64


@dataclass
class Leg:
    """One subflow: `seq` is what it sends next, `ack` what it expects next. Addresses are IPv4."""

    src: IPv4Address
    sport: int
    dst: IPv4Address
    dport: int
    isn: int = field(default_factory=lambda: randbits(32))
    ack: int = 0

    def __post_init__(self) -> None:
        self.seq = self.isn

    @classmethod
    def answering(cls, syn: Segment) -> Leg:
        """The server's side of a subflow that this SYN opens."""
        assert isinstance(syn.src, IPv4Address)
        assert isinstance(syn.dst, IPv4Address)
        leg = cls(syn.dst, syn.dport, syn.src, syn.sport)
        leg.take(syn)
        return leg

    @property
    def ssn(self) -> int:
        """The subflow sequence number of the next octet, as a mapping has it: relative to the ISN."""
        return (self.seq - self.isn) % _32

    def segment(self, flags: int, *options: Option, payload: bytes = b"") -> Segment:
        """Make the next segment to send."""
        made = Segment(
            self.src,
            self.sport,
            self.dst,
            self.dport,
            self.seq,
            self.ack,
            flags,
            WINDOW,
            options,
            payload,
            len(payload),
        )
        self.seq = (self.seq + len(payload) + bool(flags & SYN) + bool(flags & FIN)) % _32
        return made

    def take(self, segment: Segment) -> None:
        """Take in what came: what is in order moves `ack` on."""
        if segment.flags & SYN:
            self.ack = (segment.seq + 1) % _32
        elif segment.seq == self.ack:
            self.ack = (self.ack + segment.payload_length + bool(segment.flags & FIN)) % _32

    def is_from_peer(self, segment: Segment) -> bool:
        """Whether a segment belongs to this subflow."""
        return (segment.src, segment.sport, segment.dport) == (self.dst, self.dport, self.sport)


@dataclass
class Endpoint:
    """One connection: our key, the peer's once known, the DSNs, and the options that follow from them."""

    key: int = field(default_factory=lambda: randbits(64))
    peer_key: int | None = None
    flags: int = 0x01
    data_ack: int = 0

    def __post_init__(self) -> None:
        self.dsn = (keys.idsn(self.key) + 1) % _64

    @property
    def peer(self) -> int:
        """The peer's key, which must have come by now."""
        assert self.peer_key is not None, "the peer has not told its key"
        return self.peer_key

    def learn(self, segment: Segment) -> None:
        """Take the peer's key from MP_CAPABLE, and move the DATA_ACK on for data that is in order."""
        for option in segment.options:
            if isinstance(option, MpCapable) and option.sender_key is not None:
                if self.peer_key is None:
                    self.peer_key = option.sender_key
                    self.data_ack = (keys.idsn(option.sender_key) + 1) % _64
                self._arrived(keys.idsn(option.sender_key) + 1, 8, option.data_length or 0)
            elif isinstance(option, Dss) and option.dsn is not None and option.data_length is not None:
                self._arrived(option.dsn, option.dsn_octets, option.data_length)

    def _arrived(self, dsn: int, octets: int, length: int) -> None:
        """Move the DATA_ACK on where these octets are the next ones."""
        if (dsn - self.data_ack) % (1 << 8 * octets) == 0:
            self.data_ack = (self.data_ack + length) % _64

    def capable(self) -> MpCapable:
        """MP_CAPABLE of the third packet: both keys."""
        return MpCapable(self.key, self.peer, flags=self.flags)

    def first_data(self, payload: bytes) -> MpCapable:
        """MP_CAPABLE of the client's first data, with a checksum where flag A is set."""
        dsn = self._next(len(payload))
        checksum = keys.dss_checksum(dsn, 1, len(payload), payload) if self.flags & 0x80 else None
        return MpCapable(self.key, self.peer, len(payload), checksum, self.flags)

    def data(self, leg: Leg, payload: bytes, *, fin: bool = False) -> Dss:
        """DSS for the next octets of the stream, on this subflow; `fin` adds the DATA_FIN."""
        length = len(payload) + fin
        dsn = self._next(length)
        ssn = leg.ssn if payload else 0
        checksum = keys.dss_checksum(dsn, ssn, length, payload) if self.flags & 0x80 else None
        return Dss(self.data_ack, dsn, ssn, length, checksum, data_fin=fin)

    def acknowledging(self) -> Dss:
        """DSS with a DATA_ACK only."""
        return Dss(self.data_ack)

    def fastclose(self) -> MpFastclose:
        """MP_FASTCLOSE with the peer's key."""
        return MpFastclose(self.peer)

    def add_addr(self, address_id: int, address: IPv4Address) -> AddAddr:
        """ADD_ADDR of an address without a port."""
        proof = keys.add_addr_hmac(self.key, self.peer, address_id, address)
        return AddAddr(address_id, address, hmac=proof)

    def join(self, address_id: int, nonce: int) -> MpJoinSyn:
        """MP_JOIN of a SYN of ours."""
        return MpJoinSyn(address_id, keys.token(self.peer), nonce)

    def join_answer(self, asked: MpJoinSyn, address_id: int, nonce: int) -> MpJoinSynAck:
        """MP_JOIN of our SYN/ACK to the peer's SYN."""
        return MpJoinSynAck(address_id, keys.syn_ack_hmac(self.key, self.peer, nonce, asked.nonce), nonce)

    def join_proof(self, nonce: int, answered: MpJoinSynAck) -> MpJoinAck:
        """MP_JOIN of the third packet of our join."""
        return MpJoinAck(keys.ack_hmac(self.key, self.peer, nonce, answered.nonce))

    def _next(self, length: int) -> int:
        dsn = self.dsn
        self.dsn = (self.dsn + length) % _64
        return dsn
