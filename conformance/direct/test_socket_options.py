"""DIRECT-18: what an application sets on its socket holds on every subflow, and what each kernel accepts."""

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.direct.keepalives import check_keepalives
from mptcp_lab.suite.direct.small_writes import check_small_writes
from mptcp_lab.suite.direct.socket_options import (
    check_bound_to_device,
    check_options_hold,
    count_refused_by_mptcp,
    option_table,
)
from mptcp_lab.suite.requirements import IPV6, ORIGIN, SERVER_TWO_PATHS, TWO_PATHS


@claim("DIRECT-18", case="ipv4", requires=(ORIGIN, TWO_PATHS))
def test_options(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """Mark, TOS, TTL, keepalive timers and congestion control hold on the first and on a later subflow."""
    check_options_hold(client, server, 4, evidence)


@claim("DIRECT-18", case="ipv6", requires=(ORIGIN, TWO_PATHS, IPV6))
def test_options_over_ipv6(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """The same over IPv6, with traffic class and hop limit."""
    check_options_hold(client, server, 6, evidence)


@claim("DIRECT-18", case="keepalives", requires=(ORIGIN, TWO_PATHS))
def test_keepalives(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """Each idle subflow sends the keepalives that were set; one without answers ends after the last."""
    check_keepalives(client, server, evidence)


@claim("DIRECT-18", case="device", requires=(ORIGIN, TWO_PATHS, SERVER_TWO_PATHS))
def test_device(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """A connection that is bound to a NIC joins by that NIC, or the kernel is known not to do so."""
    check_bound_to_device(client, server, evidence)


@claim("DIRECT-18", case="small-writes", requires=ORIGIN)
def test_small_writes(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """Small writes leave one by one with TCP_NODELAY, and together when TCP_CORK is cleared or overruled."""
    check_small_writes(client, server, evidence)


@claim("DIRECT-18", case="table", requires=ORIGIN)
def test_table(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """For information: options that the kernel accepts, refuses with errno, or does not show again."""
    table = option_table(client, server)
    evidence.document("socket options on MPTCP and on TCP", table)
    evidence.figure("socket options tried", len(table))
    evidence.figure("refused on MPTCP and accepted on TCP", count_refused_by_mptcp(table))
