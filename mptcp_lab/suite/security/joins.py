"""Attack a live connection by joining it: with guessed tokens, replayed packets, or overheard keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from ipaddress import IPv4Address
from secrets import randbits

from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import NeverHappened, eventually
from mptcp_lab.suite.expectations import Joined, expected_pairs, wait_for_joins
from mptcp_lab.suite.matrix import Matrix
from mptcp_lab.suite.packets import format_segments, rows
from mptcp_lab.suite.rfc8684.peer import Peer
from mptcp_lab.suite.rfc8684.peer_subflow import Subflow, option_of
from mptcp_lab.suite.security.forging import Forger
from mptcp_lab.suite.security.overhearing import Keys, overheard_join
from mptcp_lab.suite.traffic import Flow, Target
from mptcp_lab.wire import Dss, MpJoinAck, MpJoinSyn, MpJoinSynAck, MptcpOption, Segment
from mptcp_lab.wire.endpoint import Endpoint, Leg
from mptcp_lab.wire.packet import ACK, PSH, RST, SYN

GUESSES = 64
#: Injected data begins this far ahead of what the server has acknowledged, so that it arrives before the
#: client's own.
INJECTED_AHEAD = 50_000
INJECTED = b"not from the client " * 50
#: An address id that no endpoint of the lab has.
STRANGE_ID = 77


def guess_tokens(forger: Forger, target: Target, _: list[Segment]) -> None:
    """Send joins with `GUESSES` random tokens, and wait until all are reset."""
    for _number in range(GUESSES):
        forger.sends(_leg(forger, target).segment(SYN, MpJoinSyn(1, randbits(32), randbits(32))))
        forger.wire.next(lambda segment: bool(segment.flags & RST), "RST of a guessed token")


def replay_syn(forger: Forger, target: Target, overheard: list[Segment]) -> None:
    """Replay a join's SYN from the attacker's address, and leave the answer without a third packet."""
    syn, _ = overheard_join(overheard)
    forger.sends(_leg(forger, target).segment(SYN, *_options(syn, MpJoinSyn)))
    forger.wire.next(lambda segment: bool(segment.flags & SYN), "SYN/ACK of the replayed SYN")


def replay_join(forger: Forger, target: Target, overheard: list[Segment]) -> None:
    """Replay a join's SYN and third packet from the attacker's address, then send data."""
    syn, third = overheard_join(overheard)
    leg = _leg(forger, target)
    forger.sends(leg.segment(SYN, *_options(syn, MpJoinSyn)))
    leg.take(forger.wire.next(lambda segment: bool(segment.flags & SYN), "SYN/ACK of the replayed join"))
    forger.sends(leg.segment(ACK, *_options(third, MpJoinAck)), leg.segment(PSH | ACK, payload=INJECTED))
    forger.wire.next(lambda segment: bool(segment.flags & RST), "RST of the replayed join")


#: Attacks of someone who has not seen the first handshake, and the server's counters of what it refuses. A
#: SYN that is replayed has a right token; its third packet decides.
WITHOUT_KEYS: tuple[Callable[[Forger, Target, list[Segment]], None], ...] = (
    guess_tokens,
    replay_join,
    replay_syn,
)
REFUSED = {"MPJoinNoTokenFound": GUESSES, "MPJoinAckHMacFailure": 1, "MPJoinAckRx": 0}


def join_again(client: Machine, data: Flow, matrix: Matrix) -> Joined:
    """Remove the endpoint of a client's second path until its subflows are gone; wait for its next joins."""
    address = client.address(1)
    with client.probe.fault("endpoint_remove", address=address):
        eventually(data.pairs, until=lambda pairs: address not in {local for local, _ in pairs}, within=5.0)
    return wait_for_joins(data, matrix)


def _leg(forger: Forger, target: Target) -> Leg:
    return Leg(forger.wire.address, forger.wire.port, IPv4Address(target.address), target.port)


def _options(segment: Segment, form: type[MptcpOption]) -> list[MptcpOption]:
    return [option for option in segment.options if isinstance(option, form)]


def _none(_client: Machine, _server: Machine, _attacker: Machine) -> AbstractContextManager[object]:
    return nullcontext()


def _checksums(client: Machine, _server: Machine, _attacker: Machine) -> AbstractContextManager[object]:
    return client.probe.fault("sysctl", name="net.mptcp.checksum_enabled", value=1)


def _no_join_to_first_address(
    _client: Machine, server: Machine, _attacker: Machine
) -> AbstractContextManager[object]:
    name = "net.mptcp.allow_join_initial_addr_port"
    return server.probe.fault("sysctl", name=name, value=0)


def _limits(client: Machine, server: Machine, _attacker: Machine) -> AbstractContextManager[object]:
    further = len(expected_pairs(client, server).present) - 1
    return server.probe.fault("limits", subflows=further)


def _firewall(_client: Machine, server: Machine, attacker: Machine) -> AbstractContextManager[object]:
    return server.probe.fault("drop", source=attacker.address(0))


Setting = Callable[[Machine, Machine, Machine], AbstractContextManager[object]]
#: Settings of client or server that might keep out someone with the keys, and whether they do; None where
#: that is shown and not judged, because kernels may differ.
SETTINGS: dict[str, tuple[Setting, bool | None]] = {
    "none": (_none, False),
    "checksums": (_checksums, False),
    "C-flag": (_no_join_to_first_address, None),
    "limits": (_limits, True),
    "firewall": (_firewall, True),
}


def joins_under(setting: str, client: Machine, server: Machine) -> Matrix:
    """Return the subflows to expect under a setting: with the C flag no join goes to the first address."""
    matrix = expected_pairs(client, server)
    if setting != "C-flag":
        return matrix
    first = server.address(0)
    return matrix.pairs_towards({remote for _, remote in matrix.addresses if remote != first})


@contextmanager
def holding_keys(attacker: Machine, keys: Keys, evidence: EvidenceBox) -> Iterator[Peer]:
    """Yield a user-space peer at the attacker that has the keys of somebody else's connection."""
    with Peer(attacker, keys.flags) as opened:
        opened.endpoint = Endpoint(keys.client, keys.server, keys.flags)
        try:
            yield opened
        finally:
            evidence.packets(rows(opened.packets(), attacker.name), f"packets of {attacker.name}")


def try_to_join(peer: Peer, target: Target, within: float) -> tuple[Subflow, Segment] | None:
    """Join the connection whose keys a peer has, from its own address.

    Returns the subflow with the fourth packet of its handshake, or None where the join is reset, or not
    answered within `within` seconds.
    """
    joining = peer.subflow(target.address, target.port, peer.machine.address(0))
    nonce = randbits(32)
    joining.says(SYN, peer.endpoint.join(STRANGE_ID, nonce))
    try:
        answer = joining.hears(SYN | ACK, what="SYN/ACK of the join", within=within)
        joining.says(ACK, peer.endpoint.join_proof(nonce, option_of(answer, MpJoinSynAck)))
        ended = joining.wire.next(joining.leg.is_from_peer, "the fourth packet of the join", within)
    except NeverHappened:
        return None
    return None if ended.flags & RST else (joining, ended)


def inject(joined: Subflow, acknowledging: Segment) -> None:
    """Send data with a right mapping, in place of what the client will send at that point of its stream.

    `acknowledging` is a packet of the server that shows how much of the client's data it has.
    """
    mine = joined.endpoint
    arrived = option_of(acknowledging, Dss)
    assert arrived.data_ack is not None, f"no DATA_ACK in {format_segments([acknowledging])}"
    behind = (arrived.data_ack - mine.dsn) % (1 << 8 * arrived.data_ack_octets)
    mine.dsn = (mine.dsn + behind + INJECTED_AHEAD) % (1 << 64)
    joined.sends(INJECTED)
