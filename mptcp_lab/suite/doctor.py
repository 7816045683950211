"""What counters tell: why a connection is not the MPTCP connection that it was meant to be. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from mptcp_lab.errors import Unsupported
from mptcp_lab.probe.facts import Counters


@dataclass(frozen=True)
class Diagnosis:
    """A cause by name, and what to look at or do next."""

    cause: str
    advice: str


class Ends(NamedTuple):
    """What both ends counted while the connection began (deltas), and whether the server speaks MPTCP."""

    client: Counters
    server: Counters
    server_speaks: bool

    def a(self, name: str) -> int:
        """One of the client's MPTcpExt counters."""
        return self.client.mptcp(name)

    def b(self, name: str) -> int:
        """One of the server's MPTcpExt counters."""
        return self.server.mptcp(name)


#: The first that matches is the cause; MIB counters of net/mptcp/mib.h.
RULES: tuple[tuple[Callable[[Ends], object], Diagnosis], ...] = (
    (
        lambda ends: ends.a("MPCapableSYNTXDrop"),
        Diagnosis(
            "SYNs with options dropped",
            "look for a firewall that drops TCP option 30; MPTCP stays off for net.mptcp.blackhole_timeout",
        ),
    ),
    (
        lambda ends: ends.a("MPCapableSYNTXDisabled"),
        Diagnosis("MPTCP is off after a blackhole", "write net.mptcp.blackhole_timeout to begin anew"),
    ),
    (
        lambda ends: ends.a("MPCapableFallbackSYNACK") and not ends.server_speaks,
        Diagnosis("server without MPTCP", "use an MPTCP listener and net.mptcp.enabled=1 on the server"),
    ),
    (
        lambda ends: ends.a("MPCapableFallbackSYNACK") and ends.b("MPCapableSYNRX"),
        Diagnosis("options stripped from SYN/ACKs", "look for a middlebox on the way back"),
    ),
    (
        lambda ends: ends.a("MPCapableFallbackSYNACK"),
        Diagnosis(
            "options stripped from SYNs", "look for a middlebox on the way, or a listener without MPTCP"
        ),
    ),
    (
        lambda ends: ends.b("MPJoinRejected"),
        Diagnosis("joins refused by the server", "raise its limits: ip mptcp limits set subflows 8"),
    ),
    (
        lambda ends: ends.a("MPJoinSynTx") and not ends.b("MPJoinSynRx"),
        Diagnosis("joins do not arrive", "look at routes per source address, firewalls and rp_filter"),
    ),
    (
        lambda ends: ends.a("MPCapableSYNTX") and not ends.a("MPJoinSynTx"),
        Diagnosis("no join was tried", "look at the client's endpoints and limits, and the server's C flag"),
    ),
)
HEALTHY = Diagnosis("healthy", "nothing to do")


def diagnose(client: Counters, server: Counters, *, server_speaks: bool = True) -> Diagnosis:
    """Name the cause from what both ends counted meanwhile; ``healthy`` where nothing points to one.

    A rule about a counter that a kernel lacks is passed over. Where no other rule matches and the server has
    accepted no join either, the cause is ``not known``, and the advice names the counters.
    """
    ends = Ends(client, server, server_speaks)
    lacking = []
    for matches, diagnosis in RULES:
        try:
            if matches(ends):
                return diagnosis
        except Unsupported as error:
            lacking.append(error.capability)
    if lacking and not ends.b("MPJoinAckRx"):
        missing = ", ".join(dict.fromkeys(lacking))
        return Diagnosis("not known", f"look at a capture: a kernel has no {missing}")
    return HEALTHY
