"""Check the three legs of a relayed connection (RELAY-1, RELAY-4), and the two of a proxy (RELAY-8)."""

from __future__ import annotations

from collections.abc import Sequence

from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import IPPROTO_TCP, Counters
from mptcp_lab.suite.expectations import Joined
from mptcp_lab.suite.packets import (
    answers,
    capable,
    first_syn,
    first_syns,
    format_segments,
    joins,
    mptcp_options,
    rows,
    tcp_capture,
)
from mptcp_lab.suite.relay.relays import MiddleLeg, Relay
from mptcp_lab.suite.traffic import is_mptcp
from mptcp_lab.wire import Segment
from mptcp_lab.wire.packet import ACK, SYN


def check_three_legs(client: Machine, relay: Relay, evidence: EvidenceBox) -> None:
    """Check that the leg between the proxies is MPTCP with all subflows, and the outer legs are plain TCP."""
    middle, port = relay.middle, relay.service.port
    before = middle.counters()
    with (
        tcp_capture(client, port, [nic.device for nic in client.paths]) as outside,
        middle.capture() as between,
        tcp_capture(relay.server, relay.origin.port) as inside,
        relay.flow(client) as data,
    ):
        transfer = data.start()
        joined = middle.wait_for_subflows(before)
        plain = not is_mptcp(data.stream)
        ended = data.end(transfer)
        asked, carried, back = outside.stop(), between.stop(), inside.stop()
    evidence.packets(rows(asked, client.name), name="packets of the client's leg")
    evidence.packets(rows(carried, relay.front.name), name="packets between the proxies")
    evidence.packets(rows(back, relay.server.name), name="packets of the server's leg")
    joined.keep(evidence)
    check_is_mptcp(middle, joined, carried, middle.back.probe.counters().delta(before[1]))
    assert plain, f"the leg from {client.name} to {relay.front.name} is not plain TCP"
    optioned = [segment for segment in asked if mptcp_options(segment)]
    assert not optioned, f"MPTCP options on the client's leg: {format_segments(optioned)}"
    check_server_leg(relay, back)
    assert (ended.got.protocol, ended.got.is_mptcp) == (IPPROTO_TCP, False), "the server's leg is not TCP"
    assert ended.intact, ended.difference


def check_is_mptcp(leg: MiddleLeg, joined: Joined, carried: Sequence[Segment], moved: Counters) -> None:
    """Check by packets and by the counters of the back that a leg is MPTCP with exactly these subflows."""
    joined.check_exact(leg.family)
    assert capable(first_syn(carried)) and len(answers(carried)) == 1, (
        f"the handshake: {format_segments(carried)}"
    )
    local, remote = first_syn(carried).src, first_syn(carried).dst
    asked = {(str(s.src), str(s.dst)) for s in joins(carried)}
    unseen = joined.pairs - {(str(local), str(remote))} - asked
    assert not unseen, f"subflows whose join was not captured at {leg.front.name}: {sorted(unseen)}"
    opened, more = moved.mptcp("MPCapableACKRX"), moved.mptcp("MPJoinAckRx")
    assert opened == 1, f"{leg.back.name} counted {opened} MPTCP connections (MPCapableACKRX), one was made"
    wanted = len(joined.pairs) - 1
    assert more == wanted, f"{leg.back.name} counted {more} joins (MPJoinAckRx), {wanted} were expected"


def check_server_leg(relay: Relay, back: Sequence[Segment]) -> None:
    """Check that the server's leg has no MPTCP option but the offer of a process under the wrapper."""
    optioned = [segment for segment in back if mptcp_options(segment)]
    if relay.middle.service.mptcp == "preload":
        offers = first_syns(back)[:1]
        optioned = [segment for segment in optioned if segment not in offers]
    assert not optioned, f"MPTCP options on the server's leg: {format_segments(optioned)}"


def check_falls_back(client: Machine, relay: Relay, evidence: EvidenceBox) -> None:
    """Check that a relay whose second proxy has no MPTCP serves the client over TCP, and counts it."""
    middle, before = relay.middle, relay.middle.counters()
    with middle.capture() as between, relay.flow(client) as data:
        ended = data.upload(65536)
        carried = between.stop()
    fallen = relay.front.probe.counters().delta(before[0]).mptcp("MPCapableFallbackSYNACK")
    evidence.packets(rows(carried, relay.front.name))
    evidence.figure(f"fallbacks counted by {relay.front.name} (MPCapableFallbackSYNACK)", fallen)
    offered = [capable(s) for s in carried if s.flags & SYN]
    assert offered == [True, False], (
        f"a SYN with MP_CAPABLE and an answer without: {format_segments(carried, 2)}"
    )
    later = [s for s in carried if s.flags & ACK and mptcp_options(s)]
    assert not later, f"MPTCP options after the fallback: {format_segments(later)}"
    assert fallen == 1, f"{relay.front.name} counted {fallen} fallbacks for one connection"
    assert ended.intact, ended.difference
