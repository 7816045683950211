"""Daemons that manage endpoints, or a security policy, stand in MPTCP's way."""

from __future__ import annotations

from collections.abc import Iterable

from mptcp_lab.doctor.finding import Confidence, Finding, Rule, Severity
from mptcp_lab.doctor.host_reading import HostReading
from mptcp_lab.doctor.readings import PairReading
from mptcp_lab.doctor.rules._common import endpoints, ends, has_tcp_only, is_virtual, warn_of_endpoint
from mptcp_lab.doctor.unreadable import read_or

DISABLED_FLAGS = frozenset({"1", "0x1", "disabled"})


def manages_endpoints(host: HostReading) -> bool:
    """Return whether a daemon of a host adds endpoints at each boot."""
    daemon = host.daemon("mptcpd")
    return daemon.is_active or daemon.enabled == "enabled" or _network_manager_adds(host)


def _network_manager_adds(host: HostReading) -> bool:
    """Return whether NetworkManager runs, and does not leave endpoints alone on all of its connections."""
    connections = read_or(host.nm_connections, ())
    is_off = bool(connections) and all(each.mptcp_flags in DISABLED_FLAGS for each in connections)
    return host.daemon("NetworkManager").is_active and not is_off


def find_two_managers(reading: PairReading) -> Iterable[Finding]:
    """Find hosts on which both mptcpd and NetworkManager manage endpoints."""
    for host in reading.hosts:
        if not (host.daemon("mptcpd").is_active and _network_manager_adds(host)):
            continue
        connections = read_or(host.nm_connections, ())
        names = [each.name for each in connections if each.mptcp_flags not in DISABLED_FLAGS] or ["NAME"]
        off = " && ".join(
            f"nmcli connection modify '{name}' connection.mptcp-flags disabled" for name in names
        )
        yield Finding(
            rule="two-endpoint-managers",
            severity=Severity.WARNING,
            host=host.name,
            what=f"mptcpd and NetworkManager both manage the endpoints of {host.name}.",
            why="Each deletes or adds what the other did, so endpoints change while connections run.",
            fix="systemctl stop mptcp",
            persistent=f"systemctl disable mptcp  # or: {off}",
            evidence=("mptcpd is active", "NetworkManager is active"),
        )


def find_failed_daemon(reading: PairReading) -> Iterable[Finding]:
    """Find an mptcpd that is enabled and has failed."""
    for host in reading.hosts:
        daemon = host.daemon("mptcpd")
        if daemon.state == "failed" or (daemon.enabled == "enabled" and daemon.state == "inactive"):
            yield Finding(
                rule="path-manager-daemon-failed",
                severity=Severity.WARNING,
                host=host.name,
                what=f"mptcpd is enabled on {host.name}, and is {daemon.state}.",
                why="It adds no endpoints. Without its plugins (package mptcpd-plugins) it does not start.",
                fix="systemctl restart mptcp && journalctl --unit mptcp --lines 20",
                persistent="systemctl enable mptcp",
                evidence=(f"mptcpd: {daemon.state}, {daemon.enabled}",),
            )


def find_virtual_endpoints(reading: PairReading) -> Iterable[Finding]:
    """Find endpoints for addresses of containers' and virtual machines' bridges."""
    for _, host, _ in ends(reading):
        for each in endpoints(host):
            device = each.device or host.device_of(each.address)
            if device and (is_virtual(device) or each.address.startswith(("127.", "169.254.", "fe80:"))):
                yield warn_of_endpoint(
                    "endpoint-on-virtual-device",
                    host,
                    f"{host.name} has an endpoint for {each.address} on {device}, which no peer can reach.",
                    "It takes a place among eight, and peers try to join an address that never answers.",
                    f"ip mptcp endpoint delete id {each.id}",
                    f"{each.address} dev {device}",
                )


def find_denials(reading: PairReading) -> Iterable[Finding]:
    """Find denials of SELinux that name MPTCP, where the connection is not MPTCP."""
    for leg, host, _ in ends(reading):
        lines = [each for each in read_or(host.log, ()) if "denied" in each and "mptcp" in each.lower()]
        if not lines or not (has_tcp_only(leg) or host.mptcp_socket in {"EACCES", "EPERM"}):
            continue
        yield Finding(
            rule="selinux-denial",
            severity=Severity.ERROR,
            host=host.name,
            what=f"SELinux on {host.name} denies MPTCP to a program.",
            why="The program's policy has no rule for MPTCP sockets or for the path manager's "
            "netlink family.",
            fix="ausearch -m avc -ts boot | audit2allow -M local-mptcp && semodule -i local-mptcp.pp",
            confidence=Confidence.LIKELY,
            evidence=tuple(lines[:2]),
        )


RULES = (
    Rule(
        "two-endpoint-managers",
        "mptcpd and NetworkManager (1.40 on) are both active",
        find_two_managers,
        "stop one: `systemctl disable --now mptcp`, or `connection.mptcp-flags disabled`",
    ),
    Rule(
        "path-manager-daemon-failed",
        "mptcpd is enabled and does not run",
        find_failed_daemon,
        "install `mptcpd-plugins`; read its journal",
    ),
    Rule(
        "endpoint-on-virtual-device",
        "an endpoint is on docker0, another bridge of this host, loopback, or a link-local address",
        find_virtual_endpoints,
        "delete it; configure the daemon to ignore the device",
    ),
    Rule(
        "selinux-denial",
        "the audit log has `denied` with `mptcp`",
        find_denials,
        "a local policy module (`audit2allow`)",
    ),
)
