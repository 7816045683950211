"""Process one segment completely: handshake, options, then data."""

from __future__ import annotations

from collections.abc import Callable

from mptcp_lab.wire.codec import WINDOW_SCALE, TcpOption
from mptcp_lab.wire.model import Announcement, Connection, Event, Side, State, Subflow
from mptcp_lab.wire.options.addresses import AddAddr, AddAddrV0, RemoveAddr
from mptcp_lab.wire.options.base import MptcpOption
from mptcp_lab.wire.options.data import Dss, MpPrio, MpPrioV0
from mptcp_lab.wire.options.ending import MpFail, MpFastclose, TcpRst
from mptcp_lab.wire.options.handshake import MpCapable, MpCapableV0
from mptcp_lab.wire.options.joins import MpJoinAck, MpJoinSyn, MpJoinSynAck
from mptcp_lab.wire.packet import ACK, FIN, RST, SYN, Segment
from mptcp_lab.wire.step_data import DataStep
from mptcp_lab.wire.step_tcp import unwrap

#: Function that stores the key that a side of a connection showed in the packet with this number.
LearnKey = Callable[[Connection, Side, int, int], None]


class Step(DataStep):
    """One segment; `run` updates its connection."""

    __slots__ = ("_learn_key",)

    def __init__(
        self, learn_key: LearnKey, connection: Connection, subflow: Subflow, side: Side, segment: Segment
    ) -> None:
        super().__init__(connection, subflow, side, segment)
        self._learn_key = learn_key

    def run(self) -> None:
        """Update the connection and the subflow with the segment."""
        segment, subflow = self.segment, self.subflow
        subflow.last_ns, subflow.last_packet = segment.time_ns, segment.number
        self.connection.packets += 1
        self.half.packets += 1
        if segment.options_cut:
            self._without_options()
            return
        options = [each for each in segment.options if isinstance(each, MptcpOption)]
        self._sync(options)
        in_order = self._track()
        if segment.flags & SYN:
            self._syn(options)
        elif not subflow.is_past_handshake and self.side is subflow.opener and not segment.flags & RST:
            self._third(options)
        if options:
            self._options(options, in_order)
        if segment.payload_length and not segment.flags & SYN:
            self._payload(bool(options))
        self._ends()

    def _ends(self) -> None:
        segment = self.segment
        if segment.flags & FIN and self.half.fin_packet is None:
            self.half.fin_packet = segment.number
        if segment.flags & RST and self.half.rst_packet is None:
            self.half.rst_packet = segment.number

    def _without_options(self) -> None:
        """Process a segment whose options were not captured as TCP only: absent options prove nothing."""
        segment, subflow = self.segment, self.subflow
        subflow.cut_headers += 1
        self._sync([])
        self._track()
        if segment.flags & SYN:
            subflow.is_opening_cut = True
            if segment.flags & ACK and subflow.answered_packet is None:
                subflow.answered_packet = segment.number
            elif not segment.flags & ACK:
                subflow.syns += 1
        elif self.side is subflow.opener and not segment.flags & RST:
            subflow.is_past_handshake = True
            self._establish()
        self._ends()

    def _establish(self) -> None:
        subflow = self.subflow
        if subflow.answered_packet is not None and subflow.established_packet is None:
            subflow.established_ns, subflow.established_packet = self.segment.time_ns, self.segment.number

    def _syn(self, options: list[MptcpOption]) -> None:
        segment, subflow, connection = self.segment, self.subflow, self.connection
        for option in segment.options:
            if isinstance(option, TcpOption) and option.kind == WINDOW_SCALE and option.data:
                self.half.window_scale = min(option.data[0], 14)
        if segment.flags & ACK:
            if subflow.answered_packet is None:
                subflow.answered_packet = segment.number
            if subflow.syn_ack is None:
                subflow.syn_ack = segment
            if subflow.syn is not None:
                self.other.syn_data = min(self.other.acked - 1, subflow.syn.payload_length)
            if connection.state is State.OPENING and not options:
                self._fall_back("SYN/ACK without MP_CAPABLE")
                self.half.plain_end = 1
            return
        subflow.syns += 1
        if subflow.syn is None:
            subflow.syn = segment
            if connection.fallback and subflow.joined:
                self.find("join-after-fallback", "MP_JOIN after the connection fell back to TCP")
        elif connection.state is State.OPENING and not options:
            self._fall_back("SYN sent again without MP_CAPABLE")

    def _third(self, options: list[MptcpOption]) -> None:
        """Process the opener's first captured packet after its SYN.

        An option that cannot be in the third packet of a handshake, or data that does not begin the stream,
        shows that the third packet was sent before and is not in the capture.
        """
        segment, subflow, connection = self.segment, self.subflow, self.connection
        subflow.is_past_handshake = True
        self._establish()
        has_proof = any(isinstance(each, (MpCapable, MpCapableV0, MpJoinAck)) for each in options)
        is_expected = connection.state in (State.OPENING, State.MPTCP) or subflow.joined
        if is_expected and not has_proof and (options or self.ssn != 1 or segment.flags & FIN):
            subflow.is_third_missing = True
        else:
            subflow.ack = segment
        if connection.state is State.OPENING and not subflow.joined:
            confirmed = Side.SERVER in connection.first_dss
            if not has_proof and not confirmed and not subflow.is_third_missing and not subflow.cut_headers:
                self._fall_back("third packet without MP_CAPABLE")
            elif has_proof or options:
                connection.state = State.MPTCP

    def _options(self, options: list[MptcpOption], in_order: bool) -> None:
        segment, connection = self.segment, self.connection
        self.half.mptcp_packets += 1
        if connection.state is State.TCP:
            connection.state = State.PARTIAL
        fallback = connection.fallback
        if fallback and self.other.plain_end is not None and segment.number != fallback.packet:
            assert self.other.isn is not None
            if (
                unwrap((segment.ack - self.other.isn) % (1 << 32), 32, self.other.acked)
                >= self.other.plain_end
            ):
                names = ", ".join(each.name for each in options)
                self.find("option-after-fallback", f"{names} after the peer was seen to be TCP")
        for option in options:
            if connection.version is None and isinstance(option, (AddAddrV0, MpPrioV0)):
                connection.version = 0  # the handshake is not in the capture
            match option:
                case Dss():
                    self._dss(option, in_order)
                case MpCapable():
                    self._capable(option)
                case MpJoinSyn():
                    self.subflow.opener_id = option.address_id
                    self.half.backup = option.backup
                case MpJoinSynAck():
                    self.subflow.responder_id = option.address_id
                    self.half.backup = option.backup
                    self.subflow.joined = True
                case AddAddr():
                    self._add_addr(option)
                case AddAddrV0():
                    connection.old_announcements.add(self._event(option))
                case RemoveAddr():
                    connection.removals.add(self._event(option))
                case MpPrioV0():
                    connection.priorities.add(self._event(option))
                case MpPrio():
                    self.half.backup = option.backup
                    connection.priorities.add(self._event(option))
                case MpFail():
                    connection.fails.add(self._event(option))
                case MpFastclose():
                    connection.fastcloses.add(self._event(option))
                case TcpRst():
                    connection.resets.add(self._event(option))
                    if not segment.flags & RST:
                        self.find("rst-option", "MP_TCPRST on a segment without RST")
                case MpCapableV0():
                    self._version_0(option)

    def _event(self, option: MptcpOption) -> Event:
        segment = self.segment
        on_rst = bool(segment.flags & RST)
        return Event(segment.number, segment.time_ns, self.side, self.subflow.id, option, on_rst)

    def _version_0(self, option: MpCapableV0) -> None:
        """Store the keys of version 0: each SYN has one key, the third packet has both (RFC 6824, 3.1)."""
        connection, segment = self.connection, self.segment
        connection.version = 0
        self._learn_key(connection, self.side, option.sender_key, segment.number)
        if option.receiver_key is not None:
            self._learn_key(connection, self.side.peer, option.receiver_key, segment.number)

    def _add_addr(self, option: AddAddr) -> None:
        segment = self.segment
        if option.echo:
            self.connection.echoes.add(self._event(option))
            return
        self.connection.announcements.add(
            Announcement(
                segment.number,
                segment.time_ns,
                self.side,
                self.subflow.id,
                option,
                self.subflow.address(self.side)[1],
                self.connection.packets,
                self.other.packets,
            )
        )

    def _capable(self, option: MpCapable) -> None:
        connection, segment = self.connection, self.segment
        if connection.version is None or segment.flags & ACK:
            connection.version = option.version
        if option.sender_key is None:
            return
        self._learn_key(connection, self.side, option.sender_key, segment.number)
        if segment.flags & SYN:
            return
        if option.receiver_key is not None:
            self._learn_key(connection, self.side.peer, option.receiver_key, segment.number)
        self._first_windows()
        stream = connection.stream(self.side)
        if option.data_length and stream.idsn is not None:
            first = Dss(
                dsn=stream.idsn + 1,
                subflow_seq=1,
                data_length=option.data_length,
                checksum=option.checksum,
            )
            self._mapping(first, octets=0)
