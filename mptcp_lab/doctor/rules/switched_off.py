"""MPTCP is switched off, or is not in the kernel."""

from __future__ import annotations

from collections.abc import Iterable

from mptcp_lab.doctor.finding import Finding, Rule, Severity
from mptcp_lab.doctor.host_reading import HostReading
from mptcp_lab.doctor.readings import PairReading

ON = "sysctl -w net.mptcp.enabled=1"
KEEP_ON = "echo net.mptcp.enabled=1 > /etc/sysctl.d/90-mptcp.conf"


def find_off_at_client(reading: PairReading) -> Iterable[Finding]:
    """Find a client of a leg whose kernel opens no MPTCP sockets because of the sysctl."""
    for leg in reading.legs:
        if _is_off(leg.client):
            yield _finding("off-at-client", leg.client, "so every connection that it opens is plain TCP.")


def find_off_at_server(reading: PairReading) -> Iterable[Finding]:
    """Find a server of a leg whose kernel refuses MPTCP because of the sysctl."""
    for leg in reading.legs:
        if leg.server is None or not _is_off(leg.server):
            continue
        if leg.connection is not None and leg.connection.is_mptcp:
            why = "and a service has plain TCP from its next start on: its listener is from before."
        else:
            why = "so every connection that it accepts is plain TCP."
        yield _finding("off-at-server", leg.server, why)


def _is_off(host: HostReading) -> bool:
    return host.mptcp_socket == "ENOPROTOOPT" or host.sysctl("net.mptcp.enabled") == "0"


def _finding(rule: str, host: HostReading, consequence: str) -> Finding:
    return Finding(
        rule=rule,
        severity=Severity.ERROR,
        host=host.name,
        what=f"MPTCP is switched off on {host.name}.",
        why=f"Its kernel opens no MPTCP socket, {consequence}",
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
