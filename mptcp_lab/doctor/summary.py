"""Summarise what one end captured of the doctor's own connection, among all packets of its port. Pure.

The first subflow is found by its addresses and ports; behind a router that translates them, by the sequence
number of its SYN. Joins are found by the token that the keys of the first subflow give, or by the sequence
numbers of the SYNs that the other end captured: a box may have taken their options away.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from mptcp_lab.doctor.connection_reading import Announcement, CaptureSummary, Handshake, Join, Reset
from mptcp_lab.wire import keys
from mptcp_lab.wire.codec import TcpOption
from mptcp_lab.wire.options.addresses import AddAddr
from mptcp_lab.wire.options.base import MptcpOption
from mptcp_lab.wire.options.ending import MpFastclose, TcpRst
from mptcp_lab.wire.options.handshake import MpCapable, MpCapableV0
from mptcp_lab.wire.options.joins import MpJoinAck, MpJoinSyn, MpJoinSynAck
from mptcp_lab.wire.packet import ACK, RST, SYN, Segment

CLIENT, SERVER = "client", "server"
MSS_OPTION = 2
T = TypeVar("T", bound=MptcpOption)


class Ends(NamedTuple):
    """Addresses and ports of the first subflow, as the client knows them."""

    client: str
    client_port: int
    server: str
    server_port: int


@dataclass
class Flow:
    """The packets of one subflow; ``opener`` is the address and port that sent the SYN."""

    opener: tuple[str, int]
    responder: tuple[str, int]
    segments: list[Segment] = field(default_factory=list)
    devices: set[str] = field(default_factory=set)

    def packets_of(self, *, by_opener: bool, flags: int, of: int) -> list[Segment]:
        """Return the packets of one direction whose flags, of those in the mask ``of``, are ``flags``."""
        source = self.opener if by_opener else self.responder
        return [s for s in self.segments if (str(s.src), s.sport) == source and s.flags & of == flags]

    @property
    def syns(self) -> list[Segment]:
        """Return the SYNs."""
        return self.packets_of(by_opener=True, flags=SYN, of=SYN | ACK | RST)

    @property
    def synacks(self) -> list[Segment]:
        """Return the SYN/ACKs."""
        return self.packets_of(by_opener=False, flags=SYN | ACK, of=SYN | ACK | RST)

    @property
    def acks(self) -> list[Segment]:
        """Return what the opener sent after the SYN/ACK."""
        return self.packets_of(by_opener=True, flags=ACK, of=SYN | ACK | RST)


def flows_of(captured: Mapping[str, Sequence[Segment]]) -> list[Flow]:
    """Return the subflows whose SYN was captured, oldest first; a SYN on a used pair of ports begins anew."""
    packets = [(segment, device) for device, each in captured.items() for segment in each]
    flows: dict[frozenset[tuple[str, int]], Flow] = {}
    found: list[Flow] = []
    for segment, device in sorted(packets, key=lambda each: each[0].time_ns):
        source, destination = (str(segment.src), segment.sport), (str(segment.dst), segment.dport)
        pair = frozenset((source, destination))
        if segment.flags & (SYN | ACK) == SYN and _is_new(flows.get(pair), segment):
            flows[pair] = Flow(source, destination)
            found.append(flows[pair])
        if pair in flows:
            flows[pair].segments.append(segment)
            if source == flows[pair].opener:
                flows[pair].devices.add(device)
    return found


def _is_new(flow: Flow | None, syn: Segment) -> bool:
    return flow is None or not any(each.seq == syn.seq for each in flow.syns)


def initial_numbers(captured: Mapping[str, Sequence[Segment]], ends: Ends) -> frozenset[int]:
    """Return the sequence numbers of the SYNs of the connection: of the first subflow, and of its joins."""
    first, joins = _select(flows_of(captured), ends, frozenset())
    return frozenset(syn.seq for flow in [first, *joins] if flow for syn in flow.syns)


def summarise(
    captured: Mapping[str, Sequence[Segment]],
    ends: Ends,
    dropped: int = 0,
    numbers: Collection[int] = frozenset(),
) -> CaptureSummary:
    """Return the summary of the packets that were captured on each device.

    ``numbers`` are the sequence numbers of the SYNs that the other end captured.
    """
    first, joins = _select(flows_of(captured), ends, numbers)
    flows = [flow for flow in [first, *joins] if flow]
    return CaptureSummary(
        packets=sum(len(flow.segments) for flow in flows),
        dropped=dropped,
        handshake=_handshake(first) if first else Handshake(),
        joins=tuple(_join(flow) for flow in joins),
        announcements=tuple(dict.fromkeys(each for flow in flows for each in _announcements(flow))),
        resets=tuple(_resets(first)) if first else (),
        devices={device: len(each) for device, each in captured.items()},
    )


def _select(flows: list[Flow], ends: Ends, numbers: Collection[int]) -> tuple[Flow | None, list[Flow]]:
    """Return the first subflow of the doctor's connection, and its joins."""
    wanted = ((ends.client, ends.client_port), (ends.server, ends.server_port))
    named = [flow for flow in flows if (flow.opener, flow.responder) == wanted]
    known = [flow for flow in flows if any(syn.seq in numbers for syn in flow.syns)]
    firsts = named or [flow for flow in known if not _options(flow.syns, MpJoinSyn)]
    first = firsts[0] if firsts else None
    tokens = _tokens(first) if first else set()
    joins = [
        flow
        for flow in flows
        if flow is not first
        and (flow in known or any(join.token in tokens for join in _options(flow.syns, MpJoinSyn)))
    ]
    return first, joins


def _tokens(flow: Flow) -> set[int]:
    """Return the tokens of both ends, as far as their keys were captured."""
    options = [option for s in flow.segments for option in s.options if isinstance(option, MpCapable)]
    found = [key for o in options for key in (o.sender_key, o.receiver_key) if key is not None]
    return {keys.token(key) for key in found}


def _options(segments: Iterable[Segment], kind: type[T]) -> list[T]:
    return [option for segment in segments for option in segment.options if isinstance(option, kind)]


def _has(segments: Sequence[Segment], *kinds: type[MptcpOption]) -> bool | None:
    """Return whether a packet has an option of one of the kinds; None if there is no packet."""
    if not segments:
        return None
    return any(isinstance(option, kinds) for segment in segments for option in segment.options)


def _version(segments: Sequence[Segment]) -> int | None:
    if _has(segments, MpCapableV0):
        return 0
    return next((option.version for option in _options(segments, MpCapable)), None)


def _mss(segments: Sequence[Segment]) -> int | None:
    plain = (o for s in segments for o in s.options if isinstance(o, TcpOption) and o.kind == MSS_OPTION)
    return next((int.from_bytes(option.data, "big") for option in plain), None)


def _handshake(flow: Flow) -> Handshake:
    answers = _options(flow.synacks, MpCapable)
    return Handshake(
        syns=len(flow.syns),
        syn_option=_has(flow.syns, MpCapable, MpCapableV0),
        syn_version=_version(flow.syns),
        plain_syns=sum(not _has([syn], MpCapable, MpCapableV0) for syn in flow.syns),
        synacks=len(flow.synacks),
        synack_option=_has(flow.synacks, MpCapable, MpCapableV0),
        synack_version=_version(flow.synacks),
        is_mirrored=any(answer.sender_key is None for answer in answers),
        denies_join=any(answer.no_join_initial for answer in answers),
        wants_checksum=any(answer.checksum_required for answer in answers),
        acks=len(flow.acks),
        ack_option=_has(flow.acks, MpCapable, MpCapableV0),
        syn_mss=_mss(flow.syns),
        synack_mss=_mss(flow.synacks),
    )


def _join(flow: Flow) -> Join:
    asked = _options(flow.syns, MpJoinSyn)
    third = [segment for segment in flow.acks if _has([segment], MpJoinAck)]
    after = flow.segments[flow.segments.index(third[0]) + 1 :] if third else []
    return Join(
        client=flow.opener[0],
        server=flow.responder[0],
        port=flow.responder[1],
        devices=frozenset(flow.devices),
        syns=len(flow.syns),
        syn_option=_has(flow.syns, MpJoinSyn),
        synacks=len(flow.synacks),
        synack_option=_has(flow.synacks, MpJoinSynAck),
        acks=len(flow.acks),
        ack_option=_has(flow.acks, MpJoinAck),
        fourth=sum((str(s.src), s.sport) == flow.responder and not s.flags & (SYN | RST) for s in after),
        address_id=asked[0].address_id if asked else None,
        is_backup=any(option.backup for option in asked),
        resets=tuple(_resets(flow)),
    )


def _resets(flow: Flow) -> Iterator[Reset]:
    for segment in flow.segments:
        if segment.flags & RST:
            reasons = _options([segment], TcpRst)
            yield Reset(
                sender=CLIENT if (str(segment.src), segment.sport) == flow.opener else SERVER,
                source=str(segment.src),
                destination=str(segment.dst),
                reason=reasons[0].reason if reasons else None,
                is_transient=bool(reasons and reasons[0].transient),
                is_fast_close=bool(_options([segment], MpFastclose)),
            )


def _announcements(flow: Flow) -> Iterator[Announcement]:
    for segment in flow.segments:
        for option in _options([segment], AddAddr):
            is_of_client = (str(segment.src), segment.sport) == flow.opener
            yield Announcement(
                sender=CLIENT if is_of_client else SERVER,
                address=str(option.address),
                address_id=option.address_id,
                port=option.port or 0,
                is_echo=option.echo,
            )
