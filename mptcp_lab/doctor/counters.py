"""Name the cause from counters: why a connection is not the MPTCP connection that it was meant to be. Pure.

Why single subflows are missing is for `mptcp_lab.suite.missing`, which looks at more than counters.
"""

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
    """The counters of both ends while the connection began (deltas), and whether the server speaks MPTCP."""

    client: Counters
    server: Counters
    server_speaks: bool

    def a(self, name: str) -> int:
        """Return one of the client's MPTcpExt counters."""
        return self.client.mptcp(name)

    def b(self, name: str) -> int:
        """Return one of the server's MPTcpExt counters."""
        return self.server.mptcp(name)


@dataclass(frozen=True)
class Rule:
    """A cause, when it is that one, and how a person sees that by the counters (Markdown)."""

    fingerprint: str
    matches: Callable[[Ends], object]
    diagnosis: Diagnosis


MPTCP = "MPTcpExt"
#: Counters that move only when a join fails, by the end that counts it (net/mptcp/mib.h).
CLIENT_ERRORS = (
    "MPJoinSynTxBindErr",
    "MPJoinSynTxConnectErr",
    "MPJoinSynTxCreatSkErr",
    "MPJoinSynAckHMacFailure",
)
SERVER_ERRORS = (
    "MPJoinNoTokenFound",
    "MPJoinAckHMacFailure",
    "MPJoinRejected",
    "MismatchPortSynRx",
    "MismatchPortAckRx",
)


def read_mptcp(counters: Counters, name: str) -> int:
    """Return one of the MPTcpExt counters; 0 where the kernel lacks it."""
    return int(counters.groups.get(MPTCP, {}).get(name, 0))


def join_errors(client: Counters, server: Counters) -> str:
    """Return the join error counters that moved at either end, with their values; empty where none did."""
    moved = [(name, read_mptcp(client, name)) for name in CLIENT_ERRORS]
    moved += [(name, read_mptcp(server, name)) for name in SERVER_ERRORS]
    return ", ".join(f"{name} {value}" for name, value in moved if value)


#: The first that matches is the cause; MIB counters of net/mptcp/mib.h.
RULES: tuple[Rule, ...] = (
    Rule(
        "client `MPCapableSYNTXDrop` moves; connecting takes seconds",
        lambda ends: ends.a("MPCapableSYNTXDrop"),
        Diagnosis(
            "SYNs with options dropped",
            "look for a firewall that drops TCP option 30; MPTCP stays off for net.mptcp.blackhole_timeout",
        ),
    ),
    Rule(
        "client `MPCapableSYNTXDisabled` moves",
        lambda ends: ends.a("MPCapableSYNTXDisabled"),
        Diagnosis("MPTCP is off after a blackhole", "write net.mptcp.blackhole_timeout to begin anew"),
    ),
    Rule(
        "client `MPCapableFallbackSYNACK` moves, and the server does not speak MPTCP",
        lambda ends: ends.a("MPCapableFallbackSYNACK") and not ends.server_speaks,
        Diagnosis("server without MPTCP", "use an MPTCP listener and net.mptcp.enabled=1 on the server"),
    ),
    Rule(
        "client `MPCapableFallbackSYNACK` and server `MPCapableSYNRX` move",
        lambda ends: ends.a("MPCapableFallbackSYNACK") and ends.b("MPCapableSYNRX"),
        Diagnosis("options stripped from SYN/ACKs", "look for a middlebox on the way back"),
    ),
    Rule(
        "client `MPCapableFallbackSYNACK` moves in any other case",
        lambda ends: ends.a("MPCapableFallbackSYNACK"),
        Diagnosis(
            "options stripped from SYNs", "look for a middlebox on the way, or a listener without MPTCP"
        ),
    ),
    Rule(
        "server `MPJoinRejected` moves",
        lambda ends: ends.b("MPJoinRejected"),
        Diagnosis("joins refused by the server", "raise its limits: ip mptcp limits set subflows 8"),
    ),
    Rule(
        "client `MPJoinSynTxBindErr` moves",
        lambda ends: ends.a("MPJoinSynTxBindErr"),
        Diagnosis(
            "joins could not be bound to their address",
            "an endpoint's address is not on its device: look at ip address and ip mptcp endpoint",
        ),
    ),
    Rule(
        "client `MPJoinSynTxConnectErr` moves",
        lambda ends: ends.a("MPJoinSynTxConnectErr"),
        Diagnosis("joins have no route", "look at ip rule and ip route of each endpoint's address"),
    ),
    Rule(
        "client `MPJoinSynTxCreatSkErr` moves",
        lambda ends: ends.a("MPJoinSynTxCreatSkErr"),
        Diagnosis("joins got no socket", "look at the kernel's log and memory of the client"),
    ),
    Rule(
        "server `MPJoinNoTokenFound` moves",
        lambda ends: ends.b("MPJoinNoTokenFound"),
        Diagnosis("joins came to a host without the connection", "look for a load balancer or another host"),
    ),
    Rule(
        "client `MPJoinSynAckHMacFailure` or server `MPJoinAckHMacFailure` moves",
        lambda ends: ends.a("MPJoinSynAckHMacFailure") or ends.b("MPJoinAckHMacFailure"),
        Diagnosis("joins with a wrong HMAC", "look for a middlebox that changes MPTCP options"),
    ),
    Rule(
        "client `MPJoinSynTx` moves, server `MPJoinSynRx` does not",
        lambda ends: ends.a("MPJoinSynTx") and not ends.b("MPJoinSynRx"),
        Diagnosis("joins do not arrive", "look at routes per source address, firewalls and rp_filter"),
    ),
    Rule(
        "client `MPJoinSynTx` is greater than client `MPJoinSynAckRx`",
        lambda ends: ends.a("MPJoinSynTx") > ends.a("MPJoinSynAckRx"),
        Diagnosis("some joins are not answered", "look at firewalls and at the server's routes and limits"),
    ),
    Rule(
        "client `MPJoinSynAckRx` is greater than server `MPJoinAckRx`",
        lambda ends: ends.a("MPJoinSynAckRx") > ends.b("MPJoinAckRx"),
        Diagnosis("third packets of joins are lost", "look for a stateful firewall that sees one direction"),
    ),
    Rule(
        "client `MPCapableSYNTX` moves, client `MPJoinSynTx` does not",
        lambda ends: ends.a("MPCapableSYNTX") and not ends.a("MPJoinSynTx"),
        Diagnosis("no join was tried", "look at the client's endpoints and limits, and the server's C flag"),
    ),
)
#: Counters of Linux 7 that say why a subflow was reset or refused.
RESET_COUNTERS: dict[str, Diagnosis] = {
    "MPJoinNoIdFound": Diagnosis(
        "a join came back with an address id that it did not ask for", "add the endpoints again"
    ),
    "MPJoinSynAckNoMPJoin": Diagnosis(
        "the answer to a join had no MP_JOIN", "look for a middlebox, or a listener without MPTCP there"
    ),
    "MPJoinAckNoMPJoin": Diagnosis(
        "the third packet of a join had no MP_JOIN", "look for a middlebox that strips options"
    ),
    "MPJoinAckNoCtx": Diagnosis(
        "the connection was closed while a join was under way", "look at what the program closes"
    ),
    "MPJoinNotEstablished": Diagnosis(
        "a join came before the connection was fully established", "let the client send data first"
    ),
    "DssReset": Diagnosis(
        "data came without a valid mapping", "look for a middlebox that changes data packets"
    ),
}
HEALTHY = Diagnosis("healthy", "nothing to do")


def diagnose(client: Counters, server: Counters, *, server_speaks: bool = True) -> Diagnosis:
    """Name the cause from what both ends counted meanwhile; ``healthy`` where nothing points to one.

    A rule about a counter that a kernel lacks is passed over. A join error that no rule is about is named
    itself. Where no rule matches and the server has accepted no join either, the cause is ``not known``, and
    the advice names the counters.
    """
    ends = Ends(client, server, server_speaks)
    lacking = []
    for rule in RULES:
        try:
            if rule.matches(ends):
                return rule.diagnosis
        except Unsupported as error:
            lacking.append(error.capability)
    if errors := join_errors(client, server):
        return Diagnosis(f"joins failed: {errors}", "look at the counters at both ends")
    if lacking and not ends.b("MPJoinAckRx"):
        missing = ", ".join(dict.fromkeys(lacking))
        return Diagnosis("not known", f"look at a capture: a kernel has no {missing}")
    return HEALTHY
