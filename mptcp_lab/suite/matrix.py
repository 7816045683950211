"""Derive the subflows to expect between two hosts from the inventory and the hosts' settings.

Pure. A fullmesh client joins each of its NICs with every address that the server announces. A pair can come
up if the address can be reached, which differs by family (see `expected_matrix`), and if the connection may
have a further subflow (see `in_order`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from mptcp_lab.inventory.model import Address, Host, Lab, Nic

#: By device, the effective value of a setting below net.ipv4.conf (the larger of the device's and `all`).
Setting = Mapping[str, int]
#: Subflows besides the first that the kernel allows, whatever `ip mptcp limits` shows (MPTCP_SUBFLOWS_MAX).
KERNEL_LIMIT = 8


@dataclass(frozen=True)
class Room:
    """How many subflows besides the first a connection may have, and how many announced addresses it may use.

    Both come from the limits that the inventory gives the two ends; the kernel has its own limit for the
    subflows.
    """

    subflows: int = KERNEL_LIMIT
    announced: int = KERNEL_LIMIT


@dataclass(frozen=True, order=True)
class Pair:
    """A client's NIC and a server's address: one possible subflow."""

    device: str
    local: Address
    remote: Address


@dataclass(frozen=True)
class Matrix:
    """The expected subflows, each with how it is reached, and the others, each with why it is not expected.

    ``left_out`` are subflows that can be reached, but exceed the limits: the kernel may make one of them if
    another attempt has failed. ``made_by_endpoints`` is false if the subflows are not made by the inventory's
    endpoints, but by a command of the check, for example.
    """

    present: Mapping[Pair, str]
    absent: Mapping[Pair, str]
    left_out: Mapping[Pair, str] = field(default_factory=dict)
    room: Room = Room()
    made_by_endpoints: bool = False

    @property
    def possible(self) -> set[tuple[str, str]]:
        """Return the subflows that can come up, expected or left out, as (local, remote) addresses."""
        return {(str(pair.local), str(pair.remote)) for pair in [*self.present, *self.left_out]}

    @property
    def addresses(self) -> set[tuple[str, str]]:
        """Return the expected subflows as (local, remote) addresses."""
        return {(str(pair.local), str(pair.remote)) for pair in self.present}

    @property
    def tried_pairs(self) -> set[tuple[str, str]]:
        """Return all pairs as (local, remote) addresses: fullmesh also tries those that are not expected."""
        pairs = [*self.present, *self.absent, *self.left_out]
        return {(str(pair.local), str(pair.remote)) for pair in pairs}

    def pairs_towards(self, remotes: Collection[str]) -> Matrix:
        """Return the matrix with only the pairs that lead to one of the given addresses."""

        def keep(pairs: Mapping[Pair, str]) -> dict[Pair, str]:
            return {pair: why for pair, why in pairs.items() if str(pair.remote) in remotes}

        return replace(
            self, present=keep(self.present), absent=keep(self.absent), left_out=keep(self.left_out)
        )

    def rows(self) -> list[dict[str, str]]:
        """Return one row per pair, for a report."""
        both = [(pair, "expected", how) for pair, how in self.present.items()]
        both += [(pair, "not expected", why) for pair, why in [*self.absent.items(), *self.left_out.items()]]
        return [
            {"nic": p.device, "local": str(p.local), "remote": str(p.remote), "subflow": what, "because": why}
            for p, what, why in sorted(both, key=lambda entry: entry[0])
        ]


def expected_matrix(
    lab: Lab,
    client: Host,
    server: Host,
    family: int,
    arp_ignore: Setting,
    rp_filter: Setting,
    room: Room | None = None,
) -> Matrix:
    """Return the subflows that fullmesh makes between `client` and `server`, over IPv4 (4) or IPv6 (6).

    A pair is reachable in one of three ways, in this order: the two NICs are on one segment; a gateway of the
    lab joins their two segments; or, for IPv4 only, another NIC of the server is on the client's segment. The
    third way works for two reasons: a socket bound to a device treats an address without a route as on-link
    (net/ipv4/route.c, ip_route_output_key_hash_rcu), and with arp_ignore=0 the server answers ARP for the
    address on any NIC (the weak host model). The server's packets from that address must also pass the
    client's rp_filter: 1 drops them, and 2 drops them if the client has no route to the address
    (net/ipv4/fib_frontend.c, __fib_validate_source).

    ``arp_ignore`` is the server's setting, and ``rp_filter`` the client's.
    """
    room = room or Room()
    present, absent = _find_reachable(lab, client, server, family, (arp_ignore, rp_filter))
    within = set(in_order(lab, client, server, family, room)[: room.subflows + 1])
    why = f"a connection has its first subflow and {room.subflows} more, which others take before this one"
    left_out = {pair: f"{how}, but {why}" for pair, how in present.items() if pair not in within}
    fitting = {pair: how for pair, how in present.items() if pair in within}
    return Matrix(fitting, absent, left_out, room, made_by_endpoints=True)


def _find_reachable(
    lab: Lab, client: Host, server: Host, family: int, settings: tuple[Setting, Setting]
) -> tuple[dict[Pair, str], dict[Pair, str]]:
    """Return the pairs that can be reached, each with how, and those that cannot, each with why."""
    present: dict[Pair, str] = {}
    absent: dict[Pair, str] = {}
    for mine in _paths(lab, client):
        for theirs in _paths(lab, server):
            local, remote = mine.address(family), theirs.address(family)
            if local is None or remote is None:
                continue
            pair = Pair(mine.device, local, remote)
            if how := reached_by(lab, mine, theirs):
                present[pair] = how
            elif why := _not_weak(client, server, (mine, theirs), family, settings):
                absent[pair] = why
            else:
                present[pair] = f"{server.name} answers ARP for it on {mine.segment}"
    return present, absent


def in_order(lab: Lab, client: Host, server: Host, family: int, room: Room) -> list[Pair]:
    """Return all pairs in the order in which the client's kernel tries them, including those that fail.

    The kernel handles the first announcement first. Then every other address of the client joins the first
    address of the server. The further announcements follow in the order of the server's endpoints
    (net/mptcp/pm_kernel.c, mptcp_pm_nl_add_addr_received and mptcp_pm_create_subflow_or_signal_addr). A
    connection over IPv6 joins over both families, and one over IPv4 joins over IPv4 only.
    """
    families = (4, 6) if family == 6 else (4,)
    locals_ = [(nic.device, a) for nic in _paths(lab, client) for f in families if (a := nic.address(f))]
    remotes = [a for nic in _paths(lab, server) for f in families if (a := nic.address(f))]
    mine = [each for each in locals_ if each[1].version == family]
    theirs = [each for each in remotes if each.version == family]
    if not mine or not theirs:
        return []
    first, initial = Pair(*mine[0], theirs[0]), theirs[0]
    announced = [remote for remote in remotes if remote != initial][: room.announced]
    joins = [
        [Pair(*each, remote) for each in locals_ if each[1].version == remote.version] for remote in announced
    ]
    to_the_first = [Pair(*each, initial) for each in mine[1:]]
    return [first, *(pair for group in [*joins[:1], to_the_first, *joins[1:]] for pair in group)]


def _paths(lab: Lab, host: Host) -> list[Nic]:
    """Return the host's NICs that are endpoints: those that are up and on a path segment."""
    return [nic for nic in host.nics if nic.up and lab.segments[nic.segment].kind == "path"]


def _gateway(lab: Lab, one: str, other: str) -> Host | None:
    """Return the first gateway that has a NIC on both segments, or None."""
    return next((g for g in lab.hosts_with("gateways") if g.nic_on(one) and g.nic_on(other)), None)


def reached_by(lab: Lab, mine: Nic, theirs: Nic) -> str:
    """Return how `theirs` is reached from `mine`, on one segment or through a gateway; empty if it is not."""
    if mine.segment == theirs.segment:
        return f"both on {mine.segment}"
    if gateway := _gateway(lab, mine.segment, theirs.segment):
        return f"routed by {gateway.name}"
    return ""


def _not_weak(
    client: Host, server: Host, nics: tuple[Nic, Nic], family: int, settings: tuple[Setting, Setting]
) -> str:
    """Return why even the weak host model does not reach a NIC of the server; empty where it does."""
    (mine, theirs), (arp_ignore, rp_filter) = nics, settings
    unjoined = f"no gateway joins {mine.segment} with {theirs.segment}"
    neighbour = server.nic_on(mine.segment)
    if neighbour is None or not neighbour.up:
        return f"{server.name} is not on {mine.segment}, and {unjoined}"
    if family == 6:
        return f"{unjoined}, and IPv6 neighbours are strong hosts"
    if arp_ignore.get(neighbour.device, 0):
        return f"{unjoined}, and arp_ignore keeps {server.name} from answering"
    own = client.nic_on(theirs.segment)
    strictness = rp_filter.get(mine.device, 0)
    if strictness == 1 or (strictness and not (own and own.up)):
        return f"{unjoined}, and rp_filter {strictness} of {client.name} drops the answers"
    return ""
