"""MPTCP is switched off, or is not in the kernel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mptcp_lab.doctor.finding import Finding, Rule, Severity
from mptcp_lab.doctor.readings import HostReading, PairReading

ON = "sysctl -w net.mptcp.enabled=1"
KEEP_ON = "echo net.mptcp.enabled=1 > /etc/sysctl.d/90-mptcp.conf"


def find_off_at_client(reading: PairReading) -> Iterable[Finding]:
    """Find a client of a leg whose kernel opens no MPTCP sockets because of the sysctl."""
    for leg in reading.legs:
        yield from _find_off("off-at-client", leg.client, "every connection that it opens is plain TCP")


def find_off_at_server(reading: PairReading) -> Iterable[Finding]:
    """Find a server of a leg whose kernel refuses MPTCP because of the sysctl."""
    for leg in reading.legs:
        if leg.server is not None:
            yield from _find_off("off-at-server", leg.server, "every connection that it accepts is plain TCP")


def _find_off(rule: str, host: HostReading, consequence: str) -> Iterator[Finding]:
    if host.mptcp_socket == "ENOPROTOOPT" or host.sysctl("net.mptcp.enabled") == "0":
        yield Finding(
            rule=rule,
            severity=Severity.ERROR,
            host=host.name,
            what=f"MPTCP is switched off on {host.name}.",
            why=f"Its kernel opens no MPTCP socket, so {consequence}.",
            fix=ON,
            persistent=KEEP_ON,
            evidence=(f"net.mptcp.enabled = {host.sysctl('net.mptcp.enabled') or 'absent'}",),
        )


RULES = (
    Rule(
        "off-at-client",
        "MPTCP is switched off at the client (`net.mptcp.enabled=0`, the default of some distributions)",
        find_off_at_client,
        f"`{ON}`",
    ),
    Rule(
        "off-at-server",
        "MPTCP is switched off at the server",
        find_off_at_server,
        f"`{ON}`, then restart the service",
    ),
)
