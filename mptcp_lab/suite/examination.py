"""Read from both ends of a connection what the rules of `mptcp_lab.suite.missing` need to find causes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from itertools import pairwise
from typing import Any

from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import (
    ConnectFailed,
    Counters,
    Endpoint,
    Limits,
    NeverHappened,
    ProbeError,
    SocketFacts,
    TransferFailed,
    eventually,
)
from mptcp_lab.suite.matrix import Matrix, Pair
from mptcp_lab.suite.missing.readings import EndReading, Handshake, PairReading, Readings, Route
from mptcp_lab.suite.packets import announcements, first_syns, joins, mptcp_options, tcp_capture
from mptcp_lab.suite.sockets import ESTABLISHED, TcpSocket, parse_sockets, ss_command
from mptcp_lab.suite.traffic import FarEnd, Flow
from mptcp_lab.wire.options.addresses import AddAddr
from mptcp_lab.wire.options.ending import TcpRst
from mptcp_lab.wire.options.joins import MpJoinAck
from mptcp_lab.wire.packet import ACK, RST, SYN, Segment

#: How long a second connection, which is made for the captures, may take for its joins.
WATCHED_FOR_SECONDS = 3.0
#: Verdicts of nftables rules that stop packets.
DROPPING = ("drop", "reject")
#: Captured packets: at the client, by device, and at its peer (None where the peer sees other addresses).
Seen = tuple[Mapping[str, Sequence[Segment]], Sequence[Segment] | None]


def examine(
    flow: Flow,
    matrix: Matrix,
    missing: Iterable[tuple[str, str]],
    watched_for: float = WATCHED_FOR_SECONDS,
) -> Readings:
    """Read both ends of a connection that lacks subflows, and capture a second connection like it.

    `missing` are the missing subflows as (local, remote) addresses.
    """
    client, far_end = flow.opening.client, flow.opening.far_end
    server = far_end.machine
    facts = flow.stream.facts()
    established = len(flow.pairs())
    port = facts.peer.port if facts.peer else far_end.port
    mine = parse_sockets(client.probe.run(ss_command("dport", port)).stdout)
    theirs = far_end.sockets()
    ends = tuple(
        _end(machine, before) for machine, before in zip((client, server), flow.opening.before, strict=True)
    )
    seen = _capture_connection(flow, matrix, port, watched_for) if facts.subflows else None
    wanted = set(missing)
    pairs = [pair for pair in matrix.present if (str(pair.local), str(pair.remote)) in wanted]
    return Readings(
        client=ends[0],
        server=ends[1],
        first=_first(facts),
        pairs=tuple(
            _pair(client, pair, matrix, (mine, () if far_end.seen_as else theirs), seen) for pair in pairs
        ),
        established=established,
        room=matrix.room,
        is_mptcp=facts.info is not None or bool(facts.subflows),
        made_by_endpoints=matrix.made_by_endpoints,
        server_addresses=frozenset(str(nic.address(f)) for nic in server.paths for f in (4, 6)),
        strange_peers=_strange_peers(matrix, far_end, theirs),
    )


def _strange_peers(matrix: Matrix, far_end: FarEnd, theirs: Sequence[TcpSocket]) -> frozenset[str]:
    """Return the remote addresses of established sockets at the far end that no expected pair explains."""
    pairs = [(str(pair.local), str(pair.remote)) for pair in matrix.present]
    expected = {far_end.seen_as(pair) if far_end.seen_as else pair[0] for pair in pairs}
    return frozenset(each.remote for each in theirs if each.state == ESTABLISHED) - expected


def _first(facts: SocketFacts) -> tuple[str, str]:
    local, remote = facts.local, facts.peer
    return (local.address if local else "", remote.address if remote else "")


def _end(machine: Machine, before: Counters) -> EndReading:
    probe = machine.probe
    endpoints: tuple[Endpoint, ...] = ()
    limits: Limits | None = None
    with suppress(ProbeError):  # a kernel that has no netlink family of MPTCP
        endpoints, limits = probe.endpoints(), probe.limits()
    return EndReading(
        name=machine.name,
        counters=probe.counters().delta(before),
        endpoints=endpoints,
        limits=limits,
        addresses=addresses_of(probe.read("addresses")),
        sysctls=probe.sysctls(),
        filters=dropping_tables(_ruleset(machine)),
    )


def _ruleset(machine: Machine) -> object:
    """Return the rules of a host's packet filter; None where nft is not installed."""
    with suppress(ProbeError):
        return machine.probe.call("read", what="nft")
    return None


def addresses_of(links: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Map each address of a device that is up to that device, from the output of ``ip -j address``."""
    return {
        str(each["local"]): str(link["ifname"])
        for link in links
        if "UP" in link.get("flags", [])
        for each in link.get("addr_info", [])
        if "local" in each
    }


def dropping_tables(document: object) -> tuple[str, ...]:
    """Return the tables with a rule or chain policy that drops or rejects, from the output of ``nft -j``."""
    found = set()
    entries = document.get("nftables", []) if isinstance(document, Mapping) else document
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, Mapping):
            continue
        rule, chain = entry.get("rule", {}), entry.get("chain", {})
        verdicts = {key for part in rule.get("expr", []) if isinstance(part, Mapping) for key in part}
        if verdicts & {*DROPPING} or chain.get("policy") == "drop":
            where = rule or chain
            found.add(f"table {where.get('family')} {where.get('table')}")
    return tuple(sorted(found))


def _pair(
    client: Machine,
    pair: Pair,
    matrix: Matrix,
    sockets: tuple[Sequence[TcpSocket], Sequence[TcpSocket]],
    seen: Seen | None,
) -> PairReading:
    local, remote = str(pair.local), str(pair.remote)
    mine = [each.state for each in sockets[0] if (each.local, each.remote) == (local, remote)]
    theirs = [each.state for each in sockets[1] if (each.local, each.remote) == (remote, local)]
    return PairReading(
        device=pair.device,
        local=local,
        remote=remote,
        client_state=mine[0] if mine else "",
        server_state=theirs[0] if theirs else "",
        route=_route(client, local, remote, pair.device),
        way=matrix.present[pair],
        handshake=None if seen is None else handshake(pair, *seen),
        announced=None if seen is None else _is_announced(seen[0], remote),
    )


def _route(client: Machine, local: str, remote: str, device: str) -> Route:
    """Return the route that the client's kernel chooses for a socket that is bound to `device`."""
    done = client.probe.run(["ip", "-o", "route", "get", remote, "from", local, "oif", device])
    return parse_route(done.stdout, done.stderr)


def parse_route(printed: str, complaint: str = "") -> Route:
    """Return the route that ``ip -o route get`` printed, or its error message."""
    words = printed.split()
    after = {word: following for word, following in pairwise(words) if word in ("dev", "via")}
    if "dev" in after and words[0] not in ("unreachable", "prohibit", "blackhole"):
        return Route(after["dev"], after.get("via", ""))
    return Route(error=(complaint or printed).strip().replace("\n", " "))


def _capture_connection(flow: Flow, matrix: Matrix, port: int, seconds: float) -> Seen | None:
    """Make a second connection while both ends capture; return the packets, or None if that failed."""
    client, far_end = flow.opening.client, flow.opening.far_end
    with suppress(ProbeError, ConnectFailed, TransferFailed, AssertionError), ExitStack() as stack:
        mine = {
            nic.device: stack.enter_context(tcp_capture(client, port, [nic.device]))
            for nic in client.paths
            if nic.device in client.probe.nics()
        }
        theirs = stack.enter_context(tcp_capture(far_end.machine, far_end.port))
        with flow.opening.again() as data:
            transfer = data.start()
            with suppress(NeverHappened):
                eventually(data.pairs, until=lambda pairs: pairs >= matrix.addresses, within=seconds)
            found = {device: capture.stop(may_be_empty=True) for device, capture in mine.items()}
            there = theirs.stop(may_be_empty=True)
            data.end(transfer)
        return found, None if far_end.seen_as else there
    return None


def handshake(
    pair: Pair, mine: Mapping[str, Sequence[Segment]], theirs: Sequence[Segment] | None
) -> Handshake:
    """Return which packets of a pair's join were captured at the client and at its peer."""
    towards, back = (pair.local, pair.remote), (pair.remote, pair.local)
    at_client = [s for packets in mine.values() for s in packets if (s.src, s.dst) in (towards, back)]
    at_server = None if theirs is None else [s for s in theirs if (s.src, s.dst) in (towards, back)]
    devices = {
        device for device, packets in mine.items() for s in joins(packets) if (s.src, s.dst) == towards
    }
    return Handshake(
        devices=frozenset(devices),
        syn_sent=bool(devices),
        syn_arrived=None if at_server is None else bool(first_syns(at_server)),
        answered=None if at_server is None else any(_is_answer(s) for s in at_server),
        answer_arrived=any(_is_answer(s) for s in at_client),
        third_sent=any(_is_third(s) for s in at_client),
        third_arrived=None if at_server is None else any(_is_third(s) for s in at_server),
        taken=any(s.src == pair.remote and not s.flags & (SYN | RST) for s in at_client),
        refused_by=_refusal(pair, at_client, at_server),
    )


def _is_answer(segment: Segment) -> bool:
    return segment.flags & (SYN | ACK) == SYN | ACK


def _is_third(segment: Segment) -> bool:
    return any(isinstance(option, MpJoinAck) for option in segment.options)


def _refusal(pair: Pair, at_client: Sequence[Segment], at_server: Sequence[Segment] | None) -> str:
    """Return who reset a join, and for what reason; empty without a RST, or if data was sent before."""
    resets = [s for s in at_client if s.flags & RST]
    if not resets or any(s.payload_length for s in at_client):
        return ""
    reset = resets[0]
    reasons = [option.reason_name for option in mptcp_options(reset) if isinstance(option, TcpRst)]
    why = f" ({reasons[0]})" if reasons else ""
    if reset.src == pair.local:
        return f"the client resets it{why}"
    if at_server is not None and not any(s.flags & RST and s.src == pair.remote for s in at_server):
        return f"something on the way resets it in the name of {pair.remote}{why}"
    return f"{pair.remote} resets it{why}"


def _is_announced(mine: Mapping[str, Sequence[Segment]], remote: str) -> bool:
    packets = [segment for each in mine.values() for segment in each]
    options = [o for s in announcements(packets) for o in s.options if isinstance(o, AddAddr)]
    return any(str(option.address) == remote and not option.echo for option in options)
