"""Which subflows to expect between two machines: derived from the inventory and the hosts' settings.

Pure. A fullmesh client joins every NIC of its own with every address that the server announces. Which of
these pairs can come up depends on what can be reached, which differs by family (see `expected`), and on how
many subflows the connection may have (see `in_order`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from mptcp_lab.inventory.model import Address, Host, Lab, Nic

#: By device, the effective value of a setting below net.ipv4.conf (the larger of the device's and `all`).
Setting = Mapping[str, int]
#: Subflows beside the first that the kernel allows, whatever `ip mptcp limits` says (MPTCP_SUBFLOWS_MAX).
KERNEL_LIMIT = 8


@dataclass(frozen=True)
class Room:
    """How many subflows a connection may have beside its first, and how many announced addresses it may join.

    Both are the limits that the inventory gives the two ends; the kernel has its own for the subflows.
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
    """The expected subflows with how each is reached, and the others with why they are not expected.

    ``left_out`` are subflows that could be reached, but that the limits have no room for: the kernel may make
    one of these where another attempt has failed. ``made_by_endpoints`` is false where something else than
    the inventory's endpoints makes the subflows, such as a command of the check.
    """

    present: Mapping[Pair, str]
    absent: Mapping[Pair, str]
    left_out: Mapping[Pair, str] = field(default_factory=dict)
    room: Room = Room()
    made_by_endpoints: bool = False

    @property
    def possible(self) -> set[tuple[str, str]]:
        """The subflows that can come up, as (local, remote) addresses: expected or left out."""
        return {(str(pair.local), str(pair.remote)) for pair in [*self.present, *self.left_out]}

    @property
    def addresses(self) -> set[tuple[str, str]]:
        """The expected subflows as (local, remote) addresses."""
        return {(str(pair.local), str(pair.remote)) for pair in self.present}

    @property
    def tried(self) -> set[tuple[str, str]]:
        """All pairs, as (local, remote) addresses: fullmesh tries the unexpected ones too."""
        pairs = [*self.present, *self.absent, *self.left_out]
        return {(str(pair.local), str(pair.remote)) for pair in pairs}

    def towards(self, remotes: Collection[str]) -> Matrix:
        """Return the matrix with the pairs that lead to one of the given addresses, and no others."""

        def kept(pairs: Mapping[Pair, str]) -> dict[Pair, str]:
            return {pair: why for pair, why in pairs.items() if str(pair.remote) in remotes}

        return replace(
            self, present=kept(self.present), absent=kept(self.absent), left_out=kept(self.left_out)
        )

    def rows(self) -> list[dict[str, str]]:
        """Return one row per pair, for a report."""
        both = [(pair, "expected", how) for pair, how in self.present.items()]
        both += [(pair, "not expected", why) for pair, why in [*self.absent.items(), *self.left_out.items()]]
        return [
            {"nic": p.device, "local": str(p.local), "remote": str(p.remote), "subflow": what, "because": why}
            for p, what, why in sorted(both, key=lambda entry: entry[0])
        ]


def expected(
    lab: Lab,
    client: Host,
    server: Host,
    family: int,
    arp_ignore: Setting,
    rp_filter: Setting,
    room: Room | None = None,
) -> Matrix:
    """Return the subflows that fullmesh makes between `client` and `server`, over IPv4 (4) or IPv6 (6).

    Reachable are, in this order: two NICs on one segment; two segments that a gateway of the lab joins; and,
    for IPv4 only, an address of the server whose other NIC is on the client's segment: a socket bound to a
    device takes an address without a route as on-link (net/ipv4/route.c, ip_route_output_key_hash_rcu), and
    with arp_ignore=0 the server answers ARP for it on any NIC (the weak host model). The server's packets
    from that address must also get past the client's rp_filter: 1 drops them, and 2 does where the client
    has no route to the address (net/ipv4/fib_frontend.c, __fib_validate_source).

    ``arp_ignore`` is the server's, ``rp_filter`` the client's.
    """
    room = room or Room()
    present, absent = _reached(lab, client, server, family, (arp_ignore, rp_filter))
    within = set(in_order(lab, client, server, family, room)[: room.subflows + 1])
    why = f"a connection has its first subflow and {room.subflows} more, which others take before this one"
    left_out = {pair: f"{how}, but {why}" for pair, how in present.items() if pair not in within}
    fitting = {pair: how for pair, how in present.items() if pair in within}
    return Matrix(fitting, absent, left_out, room, made_by_endpoints=True)


def _reached(
    lab: Lab, client: Host, server: Host, family: int, settings: tuple[Setting, Setting]
) -> tuple[dict[Pair, str], dict[Pair, str]]:
    """Return the pairs that can be reached with how, and those that cannot with why."""
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
    """Return the pairs in the order in which the client's kernel tries them, those that fail among them.

    The first announcement is handled first; then every other address of the client joins the first address
    of the server; then come the further announcements, in the order of the server's endpoints (net/mptcp/
    pm_kernel.c, mptcp_pm_nl_add_addr_received and mptcp_pm_create_subflow_or_signal_addr). A connection over
    IPv6 joins over both families, one over IPv4 over IPv4 only.
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
    """Return the host's NICs that are endpoints: up, on a path segment."""
    return [nic for nic in host.nics if nic.up and lab.segments[nic.segment].kind == "path"]


def _gateway(lab: Lab, one: str, other: str) -> Host | None:
    """Return a gateway that is plugged into both segments, if there is one."""
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
    """Say why the weak host model does not reach a NIC of the server's either; empty where it does."""
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
