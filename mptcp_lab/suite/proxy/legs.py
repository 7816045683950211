"""Check a stream through a proxy on both of its legs (PROXY-1), also when a path is lost (PROXY-5, -16)."""

from __future__ import annotations

from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import IPPROTO_TCP
from mptcp_lab.suite.directions import UPLOAD
from mptcp_lab.suite.expectations import subflows_to, wait_for_joins
from mptcp_lab.suite.failover.live_stream import check_survives
from mptcp_lab.suite.packets import (
    answers,
    capable,
    first_syn,
    format_segments,
    joins,
    mptcp_options,
    rows,
    tcp_capture,
)
from mptcp_lab.suite.traffic import Target, is_mptcp


def check_two_legs(client: Machine, target: Target, evidence: EvidenceBox) -> None:
    """Check that a proxy's front leg is MPTCP with all of a client's subflows and its back leg plain TCP.

    The check reads the sockets of client and origin, the proxy's counters, and captures of both legs. A
    client may also join over the other family, as fullmesh does where addresses of both are announced.
    """
    proxy, port, inner = target.machine, target.port, target.origin_service.port
    expected, before, family = subflows_to(client, target), proxy.probe.counters(), target.family
    with (
        tcp_capture(proxy, port, [nic.device for nic in proxy.paths]) as outside,
        tcp_capture(target.origin, inner) as inside,
        target.flow(client) as data,
    ):
        transfer = data.start()
        joined = wait_for_joins(data, expected)
        assert is_mptcp(data.stream), f"the front leg from {client.name} to {proxy.name} is plain TCP"
        ended = data.end(transfer)
        asked, back = outside.stop(), inside.stop()
    moved = proxy.probe.counters().delta(before)
    joined.keep(evidence)
    evidence.packets(rows(asked, proxy.name), name="packets of the front leg")
    evidence.packets(rows(back, target.origin.name), name="packets of the back leg")
    joined.check_exact(family)
    opened = moved.mptcp("MPCapableACKRX")
    assert opened == 1, f"{proxy.name} counted {opened} MPTCP connections (MPCapableACKRX), one was made"
    # After the sockets were read, more subflows may come up over the other family.
    found, counted = joined.pairs, moved.mptcp("MPJoinAckRx")
    asked_for = {(s.src, s.sport, s.dst) for s in joins(asked)}
    assert len(found) - 1 <= counted <= len(asked_for), f"{counted} joins counted, {len(asked_for)} asked for"
    assert capable(first_syn(asked)) and len(answers(asked)) == 1, f"the front leg: {format_segments(asked)}"
    unseen = found - {_first(client, proxy, family)} - {(str(s.src), str(s.dst)) for s in joins(asked)}
    assert not unseen, f"subflows whose join was not captured at {proxy.name}: {sorted(unseen)}"
    assert (ended.got.protocol, ended.got.is_mptcp) == (IPPROTO_TCP, False), "the back leg is not plain TCP"
    with_options = [segment for segment in back if segment.sport == inner and mptcp_options(segment)]
    assert not with_options, f"B sent MPTCP options on the back leg: {format_segments(with_options)}"
    assert ended.intact, ended.difference


def check_first_path_lost(client: Machine, target: Target, direction: str, evidence: EvidenceBox) -> None:
    """Check that a stream through a proxy survives the loss of a client's first path in the proxy's firewall.

    The path is lost in each direction that carries data: a client that still receives on it does not give it
    up as a sender, and MPTCP sends again no sooner than that subflow does. The origin sees one connection, so
    the back leg's addresses and ports stay the same.
    """
    lost, ways = target.machine.probe.fault, "in" if direction == UPLOAD else "both"
    moved = check_survives(
        client, target, lambda: lost("drop", direction=ways, source=client.address(0)), evidence, direction
    )
    evidence.document("back leg", {"proxy": moved.record.peer, "origin": moved.record.local})


def _first(client: Machine, proxy: Machine, family: int) -> tuple[str, str]:
    """Return the client's and the proxy's address of the first subflow."""
    return client.address(0, family), proxy.address(0, family)
