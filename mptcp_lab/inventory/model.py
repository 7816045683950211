"""The lab as the inventory describes it: frozen facts, no I/O.

Everything else (addresses in configurations, the expected subflow matrix, the picture of the topology)
is derived from these objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Any

Address = IPv4Address | IPv6Address
FUNCTIONS = ("clients", "proxies", "forwarders", "gateways", "origins", "attackers")
#: Functions of hosts that have no MPTCP endpoints: they pass packets on, or forge them.
WITHOUT_ENDPOINTS = frozenset({"gateways", "forwarders", "attackers"})


@dataclass(frozen=True)
class Segment:
    """An L2 network: NICs on a ``path`` segment become MPTCP endpoints, NICs on a ``core`` do not."""

    name: str
    kind: str
    ipv4: IPv4Network | None
    ipv6: IPv6Network | None


@dataclass(frozen=True)
class Nic:
    """A network interface that belongs to the lab, plugged into one segment.

    ``unplug`` and ``plug`` are commands that the controller runs to pull the NIC's cable (at the switch) and
    to plug it in, or empty. ``endpoint`` holds the flags of its MPTCP endpoints, as in ip-mptcp(8).
    """

    segment: str
    device: str
    ipv4: IPv4Interface | None
    ipv6: IPv6Interface | None
    rate: str | None = None
    up: bool = True
    unplug: str = ""
    plug: str = ""
    endpoint: tuple[str, ...] = ()

    def address(self, family: int = 4) -> Address | None:
        """Return the NIC's address of an IP version (4 or 6), or None if it has none."""
        interface = self.ipv4 if family == 4 else self.ipv6
        return interface.ip if interface else None


@dataclass(frozen=True)
class Backend:
    """A port of a host to which a proxy connects, with nginx's balancing parameters.

    ``service`` is the name of the service that the inventory gives instead of a port, or empty. ``mptcp`` is
    the method by which the connection to the backend gets MPTCP, with the same words as `Service.mptcp`.
    """

    host: str
    port: int
    weight: int = 1
    max_fails: int = 3
    fail_timeout: str = "10s"
    service: str = ""
    mptcp: str = "off"


@dataclass(frozen=True)
class Service:
    """A listener on a host: a proxy (haproxy, nginx), a forwarder (DNAT) or an origin.

    ``mptcp`` is the method by which its listener gets MPTCP: ``native`` (an option of the program),
    ``preload`` (a systemd drop-in with the wrapper library), ``auto`` (native if the program's version
    supports it, else preload), or ``off``. ``proxy_protocol`` is the version of the PROXY header that a proxy
    sends, 0 for none; an origin accepts both versions. ``accepts_proxy`` says that a proxy expects such a
    header from whoever connects. ``listen`` is ``addresses`` (a socket on each address of the host's NICs on
    the lab's segments, or on those in ``listen_on``), or a shape of one socket on all addresses:
    ``wildcard`` (IPv4), ``dual-stack`` or ``ipv6-only``. ``hashed`` balances by the client's address. The
    timeouts are those of the proxy, such as ``500ms``; an empty one means the engine's default.
    """

    name: str
    engine: str
    port: int
    mptcp: str
    host: str
    backends: tuple[Backend, ...] = ()
    hashed: bool = False
    proxy_protocol: int = 0
    listen: str = "addresses"
    listen_on: tuple[str, ...] = ()
    connect_timeout: str = ""
    idle_timeout: str = ""
    accepts_proxy: bool = False


@dataclass(frozen=True)
class Host:
    """A machine of the lab: its functions (groups), NICs and services."""

    name: str
    functions: frozenset[str]
    nics: tuple[Nic, ...]
    services: tuple[Service, ...]
    mptcp: bool
    variables: Mapping[str, Any] = field(repr=False, hash=False, compare=False, default_factory=dict)

    def nic_on(self, segment: str) -> Nic | None:
        """Return the host's NIC on a segment, or None if it has none there."""
        return next((nic for nic in self.nics if nic.segment == segment), None)

    def nic(self, device: str) -> Nic:
        """Return the NIC with a device name; raise `KeyError`, with host and device, if none has it."""
        for nic in self.nics:
            if nic.device == device:
                return nic
        raise KeyError(f"{self.name} has no NIC {device}")

    def service(self, name: str) -> Service:
        """Return the service with a name; raise `KeyError`, which names host and service, if none has it."""
        for service in self.services:
            if service.name == name:
                return service
        raise KeyError(f"{self.name} has no service {name}")


@dataclass(frozen=True)
class Lab:
    """One inventory: segments and hosts by name, in the inventory's order."""

    name: str
    flavour: str
    source: str
    segments: Mapping[str, Segment]
    hosts: Mapping[str, Host]

    def hosts_with(self, function: str) -> tuple[Host, ...]:
        """Return the hosts with a function (a name of ``FUNCTIONS``), in the inventory's order."""
        return tuple(host for host in self.hosts.values() if function in host.functions)

    def path_nics(self, host: Host) -> tuple[Nic, ...]:
        """Return a host's NICs that carry subflows: up, on path segments, in the inventory's order."""
        return tuple(nic for nic in host.nics if nic.up and self.segments[nic.segment].kind == "path")

    @property
    def local(self) -> bool:
        """Return whether the hosts run on this machine (containers or virtual machines)."""
        return self.flavour in ("embedded", "vm")

    @property
    def paths(self) -> tuple[Segment, ...]:
        """Return the segments that carry subflows."""
        return tuple(segment for segment in self.segments.values() if segment.kind == "path")

    def services(self, engine: str) -> tuple[Service, ...]:
        """Return every service of an engine, on any host."""
        return tuple(s for host in self.hosts.values() for s in host.services if s.engine == engine)
