"""Connections of other programs continue as plain TCP, where a new one is MPTCP."""

from __future__ import annotations

from collections.abc import Iterable

from mptcp_lab.doctor.finding import Finding, Rule, Severity
from mptcp_lab.doctor.readings import PairReading
from mptcp_lab.doctor.rules._common import ends
from mptcp_lab.doctor.unreadable import read_or


def find_fallen_back(reading: PairReading) -> Iterable[Finding]:
    """Find MPTCP sockets of the port whose connection fell back, though the doctor's connection is MPTCP."""
    for leg, host, is_client in ends(reading):
        if leg.connection is None or leg.connection.is_mptcp is not True:
            continue
        for each in read_or(host.connections, ()):
            port = each.remote_port if is_client else each.local_port
            if not each.has_fallen_back or port != leg.port:
                continue
            socket = f"{_quote_address(each.local)}:{each.local_port}"
            yield Finding(
                rule="connection-fell-back",
                severity=Severity.WARNING,
                host=host.name,
                what=f"The connection {each.local}:{each.local_port} of {host.name} is plain TCP, "
                "and a new one is MPTCP.",
                why="It fell back when something stripped its options, and never becomes MPTCP again. "
                "The program cannot see it, and `ss -t` shows `tcp-ulp-mptcp` still.",
                fix=f"ss -tK 'src {socket} and dport = :{each.remote_port}'",
                evidence=(
                    f"ss -Mni: {each.local}:{each.local_port} > {each.remote}:{each.remote_port} fallback",
                ),
            )


def _quote_address(address: str) -> str:
    return f"[{address}]" if ":" in address else address


RULES = (
    Rule(
        "connection-fell-back",
        "`ss -Mi` shows `fallback` for an open connection, and a new one is MPTCP",
        find_fallen_back,
        "close it (`ss -tK`), so that the program connects again",
    ),
)
