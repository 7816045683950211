"""Build the packets and options of a user-space MPTCP peer, client or server. Pure: no I/O.

A `Leg` is one subflow of the peer and keeps its sequence numbers. An `Endpoint` is the connection and keeps
keys and DSNs. Both build correct packets only; a caller that needs a wrong packet puts a wrong
option into it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address
from secrets import randbits

from mptcp_lab.wire import keys
from mptcp_lab.wire.codec import Option
from mptcp_lab.wire.options.addresses import AddAddr
from mptcp_lab.wire.options.data import Dss
from mptcp_lab.wire.options.ending import MpFastclose
from mptcp_lab.wire.options.handshake import MpCapable
from mptcp_lab.wire.options.joins import MpJoinAck, MpJoinSyn, MpJoinSynAck
from mptcp_lab.wire.packet import FIN, SYN, Segment

WINDOW = 65535
_32, _64 = 1 << 32, 1 << 64


@dataclass
class Leg:
    """One IPv4 subflow: `seq` is the next sequence number to send, `ack` the next one expected."""

    src: IPv4Address
    sport: int
    dst: IPv4Address
    dport: int
    isn: int = field(default_factory=lambda: randbits(32))
    ack: int = 0

    def __post_init__(self) -> None:
        self.seq = self.isn

    @classmethod
    def from_syn(cls, syn: Segment) -> Leg:
        """Return the server's side of the subflow that this SYN opens."""
        assert isinstance(syn.src, IPv4Address)
        assert isinstance(syn.dst, IPv4Address)
        leg = cls(syn.dst, syn.dport, syn.src, syn.sport)
        leg.take(syn)
        return leg

    @property
    def ssn(self) -> int:
        """Return the subflow sequence number of the next octet, relative to the ISN as in a mapping."""
        return (self.seq - self.isn) % _32

    def segment(self, flags: int, *options: Option, payload: bytes = b"") -> Segment:
        """Return the next segment to send, and advance `seq` past it."""
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
        """Process a received segment: advance `ack` if the segment is in order."""
        if segment.flags & SYN:
            self.ack = (segment.seq + 1) % _32
        elif segment.seq == self.ack:
            self.ack = (self.ack + segment.payload_length + bool(segment.flags & FIN)) % _32

    def is_from_peer(self, segment: Segment) -> bool:
        """Return whether the peer sent this segment on this subflow."""
        return (segment.src, segment.sport, segment.dport) == (self.dst, self.dport, self.sport)


@dataclass
class Endpoint:
    """One connection: the keys of both sides and the DSNs. Its methods build MPTCP options from them."""

    key: int = field(default_factory=lambda: randbits(64))
    peer_key: int | None = None
    flags: int = 0x01
    data_ack: int = 0

    def __post_init__(self) -> None:
        self.dsn = (keys.idsn(self.key) + 1) % _64

    @property
    def peer(self) -> int:
        """Return the peer's key; AssertionError if `learn` has not seen it yet."""
        assert self.peer_key is not None, "the peer has not sent its key"
        return self.peer_key

    def learn(self, segment: Segment) -> None:
        """Store the peer's key from MP_CAPABLE, and advance the DATA_ACK for data that is in order."""
        for option in segment.options:
            if isinstance(option, MpCapable) and option.sender_key is not None:
                if self.peer_key is None:
                    self.peer_key = option.sender_key
                    self.data_ack = (keys.idsn(option.sender_key) + 1) % _64
                self._advance(keys.idsn(option.sender_key) + 1, 8, option.data_length or 0)
            elif isinstance(option, Dss) and option.dsn is not None and option.data_length is not None:
                self._advance(option.dsn, option.dsn_octets, option.data_length)

    def _advance(self, dsn: int, octets: int, length: int) -> None:
        """Advance the DATA_ACK by `length` if `dsn` is expected next; `octets` is its length on the wire."""
        if (dsn - self.data_ack) % (1 << 8 * octets) == 0:
            self.data_ack = (self.data_ack + length) % _64

    def capable(self) -> MpCapable:
        """Return the MP_CAPABLE of the third packet, with both keys."""
        return MpCapable(self.key, self.peer, flags=self.flags)

    def first_data(self, payload: bytes) -> MpCapable:
        """Return the MP_CAPABLE of the client's first data, with a checksum if flag A is set."""
        dsn = self._next(len(payload))
        checksum = keys.dss_checksum(dsn, 1, len(payload), payload) if self.flags & 0x80 else None
        return MpCapable(self.key, self.peer, len(payload), checksum, self.flags)

    def data(self, leg: Leg, payload: bytes, *, fin: bool = False) -> Dss:
        """Return the DSS that maps the next octets of the stream on this subflow; `fin` adds the DATA_FIN."""
        length = len(payload) + fin
        dsn = self._next(length)
        ssn = leg.ssn if payload else 0
        checksum = keys.dss_checksum(dsn, ssn, length, payload) if self.flags & 0x80 else None
        return Dss(self.data_ack, dsn, ssn, length, checksum, data_fin=fin)

    def data_ack_option(self) -> Dss:
        """Return a DSS with a DATA_ACK only."""
        return Dss(self.data_ack)

    def fastclose(self) -> MpFastclose:
        """Return an MP_FASTCLOSE with the peer's key."""
        return MpFastclose(self.peer)

    def add_addr(self, address_id: int, address: IPv4Address, port: int | None = None) -> AddAddr:
        """Return an ADD_ADDR that announces an address, with or without a port."""
        proof = keys.add_addr_hmac(self.key, self.peer, address_id, address, port)
        return AddAddr(address_id, address, port, hmac=proof)

    def join(self, address_id: int, nonce: int) -> MpJoinSyn:
        """Return the MP_JOIN of a SYN that this side sends."""
        return MpJoinSyn(address_id, keys.token(self.peer), nonce)

    def join_answer(self, asked: MpJoinSyn, address_id: int, nonce: int) -> MpJoinSynAck:
        """Return the MP_JOIN of the SYN/ACK that answers the peer's SYN."""
        return MpJoinSynAck(address_id, keys.syn_ack_hmac(self.key, self.peer, nonce, asked.nonce), nonce)

    def join_proof(self, nonce: int, answered: MpJoinSynAck) -> MpJoinAck:
        """Return the MP_JOIN of the third packet of a join that this side opened with `nonce`."""
        return MpJoinAck(keys.ack_hmac(self.key, self.peer, nonce, answered.nonce))

    def _next(self, length: int) -> int:
        dsn = self.dsn
        self.dsn = (self.dsn + length) % _64
        return dsn
