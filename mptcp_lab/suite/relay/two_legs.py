"""Check a proxy with MPTCP on both legs, and that a loss on one leg is invisible on the other (RELAY-8)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.machines.session import Machine
from mptcp_lab.suite.expectations import subflows_to, wait_for_joins
from mptcp_lab.suite.failover.live_stream import ENOUGH_BYTES, RESUMED_WITHIN_SECONDS
from mptcp_lab.suite.packets import format_segments, mptcp_options, opened_here, rows, tcp_capture
from mptcp_lab.suite.relay.legs import check_is_mptcp
from mptcp_lab.suite.relay.relays import MiddleLeg
from mptcp_lab.suite.traffic import Target, is_mptcp
from mptcp_lab.wire import Segment
from mptcp_lab.wire.options.data import Dss
from mptcp_lab.wire.packet import FIN, RST, SYN

FRONT, BACK = "front", "back"
SIDES = (FRONT, BACK)


def check_two_mptcp_legs(
    client: Machine, target: Target, leg: MiddleLeg, side: str, evidence: EvidenceBox
) -> None:
    """Check both legs' subflows, and that the loss of the first path of one leg leaves the other as it is.

    `side` names the leg that loses its path. The stream must go on over another path of that leg.
    """
    proxy, before = target.machine, leg.counters()
    fault = _loss(client, target, leg, side)
    with (
        tcp_capture(client, target.port, [nic.device for nic in client.paths]) as outside,
        leg.capture() as inside,
        target.flow(client) as data,
    ):
        transfer = data.start()
        asked = wait_for_joins(data, subflows_to(client, target))
        joined = leg.wait_for_subflows(before)
        assert is_mptcp(data.stream), f"the leg from {client.name} to {proxy.name} is plain TCP"
        moved = leg.back.probe.counters().delta(before[1])
        spared = leg.subflows if side == FRONT else data.pairs
        held = spared()
        data.wait_for_bytes(ENOUGH_BYTES)
        with fault():
            lost = proxy.probe.clock().realtime
            data.wait_for_bytes(ENOUGH_BYTES, within=RESUMED_WITHIN_SECONDS)
            during, back = spared(), proxy.probe.clock().realtime
        ended = data.end(transfer)
        front_packets, back_packets = outside.stop(), inside.stop()
    asked.keep(evidence)
    evidence.figure("subflows of the back leg", len(joined))
    evidence.packets(rows(front_packets, client.name), name="packets of the front leg")
    evidence.packets(rows(back_packets, proxy.name), name="packets of the back leg")
    check_is_mptcp(leg, joined, back_packets, moved)
    assert during == held, f"subflows of the leg that lost nothing: {sorted(held)}, then {sorted(during)}"
    wounded, other = (front_packets, back_packets) if side == FRONT else (back_packets, front_packets)
    strange = [s for s in _select_packets(opened_here(other), lost, back) if _is_more_than_data(s)]
    assert not strange, f"the loss shows on the leg that lost nothing: {format_segments(strange)}"
    first = client.address(0) if side == FRONT else str(leg.paths[0][0].address(leg.family))
    port = target.port if side == FRONT else leg.port
    carriers = {
        str(s.src) for s in _select_packets(wounded, lost, back) if s.payload_length and s.dport == port
    }
    assert carriers - {first}, f"nothing but {first} carried anything while its path was lost"
    assert ended.intact, ended.difference


def _loss(
    client: Machine, target: Target, leg: MiddleLeg, side: str
) -> Callable[[], AbstractContextManager[object]]:
    """Return the loss of the first path of a leg: its receiver drops what comes from the sender's address."""
    if side == FRONT:
        return lambda: target.machine.probe.fault("drop", source=client.address(0))
    source = str(leg.paths[0][0].address(leg.family))
    return lambda: leg.back.probe.fault("drop", source=source)


def _select_packets(packets: list[Segment], since: float, until: float) -> list[Segment]:
    return [s for s in packets if int(since * 1e9) <= s.time_ns < int(until * 1e9)]


def _is_more_than_data(segment: Segment) -> bool:
    """Return whether a packet opens, ends or changes a subflow."""
    return bool(segment.flags & (SYN | FIN | RST)) or any(
        not isinstance(option, Dss) for option in mptcp_options(segment)
    )
