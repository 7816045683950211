"""The doctor's reading of one host, as a frozen dataclass. Nothing here touches a host.

Its parts are in `network_reading.py` and `service_reading.py`. A part that this user may not read, or that
the host's tools cannot show, is `Unreadable` with the reason. The agent's operation ``examine``
(mptcp_lab/agent/lab_agent/examine) returns the document.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mptcp_lab.doctor.network_reading import HostAddress, Link, Lookup, Neighbour, PolicyRule, Qdisc, Route
from mptcp_lab.doctor.service_reading import (
    Configuration,
    Conntrack,
    Daemon,
    Listener,
    NmConnection,
    OpenConnection,
    Process,
    Unit,
)
from mptcp_lab.doctor.unreadable import NOT_READ, Unreadable, read_or
from mptcp_lab.probe.facts import Endpoint, Limits


@dataclass(frozen=True)
class HostReading:
    """Everything that was read of one host at one moment.

    ``name`` is the user's name for it, ``uid`` whom the program ran as. ``mptcp_socket`` is "" where the
    kernel opens MPTCP sockets, else the error's name (ENOPROTOOPT: switched off, EPROTONOSUPPORT: not built,
    EINVAL: older than 5.6). ``counters`` are totals since the boot by group ("MPTcpExt", "TcpExt", "IpExt",
    "Tcp", "Conntrack"). ``config`` has the kernel's build options (CONFIG_MPTCP: "y"). ``tools`` maps
    programs that are installed to their versions. ``sysctls`` has net.mptcp.* and all that matter, by dotted
    name. ``nft`` is ``nft list ruleset``, ``iptables`` what iptables-save and ip6tables-save print (legacy
    tables too). ``management_address`` is the
    address that SSH came in on. ``log`` has the lines of the kernel's log that name MPTCP, TCP or the port.
    ``refused_options`` maps socket options that an MPTCP socket refuses and a TCP socket takes to the errors'
    names. ``duplicates`` maps addresses of the host to the MACs of other hosts that claim them.
    ``boot_files`` maps files that a boot runs or reads to their lines that set endpoints or limits.
    ``installed_kernels`` are the releases of the kernels that could be booted.
    """

    name: str
    hostname: str = ""
    kernel: str = ""
    kernel_version: str = ""
    machine: str = ""
    os: str = ""
    os_id: str = ""
    os_version: str = ""
    uid: int = 0
    uptime: float = 0.0
    mptcp_socket: str = ""
    config: Unreadable | Mapping[str, str] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)
    sysctls: Mapping[str, str] = field(default_factory=dict)
    limits: Unreadable | Limits = NOT_READ
    endpoints: Unreadable | tuple[Endpoint, ...] = ()
    addresses: Unreadable | tuple[HostAddress, ...] = ()
    links: Unreadable | tuple[Link, ...] = ()
    routes: Unreadable | tuple[Route, ...] = ()
    rules: Unreadable | tuple[PolicyRule, ...] = ()
    lookups: Unreadable | tuple[Lookup, ...] = ()
    neighbours: Unreadable | tuple[Neighbour, ...] = ()
    qdiscs: Unreadable | tuple[Qdisc, ...] = ()
    nft: Unreadable | str = ""
    iptables: Unreadable | str = ""
    listeners: Unreadable | tuple[Listener, ...] = ()
    connections: Unreadable | tuple[OpenConnection, ...] = ()
    processes: tuple[Process, ...] = ()
    units: Unreadable | tuple[Unit, ...] = ()
    configurations: tuple[Configuration, ...] = ()
    daemons: tuple[Daemon, ...] = ()
    nm_connections: Unreadable | tuple[NmConnection, ...] = ()
    conntrack: Unreadable | Conntrack | None = None
    counters: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    sockets: Unreadable | str = ""
    log: Unreadable | tuple[str, ...] = ()
    selinux: str = ""
    bpf: Unreadable | tuple[str, ...] = ()
    management_address: str = ""
    refused_options: Mapping[str, str] = field(default_factory=dict)
    duplicates: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    boot_files: Unreadable | Mapping[str, str] | None = None
    installed_kernels: Unreadable | tuple[str, ...] = ()

    def sysctl(self, name: str) -> str:
        """Return a sysctl; "" where the kernel has none of this name."""
        return self.sysctls.get(name, "")

    def rp_filter(self, device: str) -> int:
        """Return the reverse path filter in force on a device: the greater of its value and that of "all"."""
        slashed = device.replace(".", "/")
        values = (self.sysctl(f"net.ipv4.conf.{each}.rp_filter") for each in ("all", slashed))
        return max((int(value) for value in values if value.isdecimal()), default=0)

    def device_of(self, address: str) -> str:
        """Return the device that has an address; "" if none has."""
        held = read_or(self.addresses, ())
        return next((each.device for each in held if each.address == address), "")

    def link(self, device: str) -> Link | None:
        """Return a device by name, or None."""
        return next((each for each in read_or(self.links, ()) if each.name == device), None)

    def endpoint(self, address: str) -> Endpoint | None:
        """Return the endpoint with an address, or None."""
        return next((each for each in read_or(self.endpoints, ()) if each.address == address), None)

    def listeners_on(self, port: int) -> tuple[Listener, ...]:
        """Return the listening sockets of a port."""
        return tuple(each for each in read_or(self.listeners, ()) if each.port == port)

    def process(self, pid: int) -> Process | None:
        """Return a listening process, or None where it was not seen."""
        return next((each for each in self.processes if each.pid == pid), None)

    def unit(self, name: str) -> Unit | None:
        """Return a unit by name, or None."""
        return next((each for each in read_or(self.units, ()) if each.name == name), None)

    def daemon(self, name: str) -> Daemon:
        """Return a daemon by name; one that is not installed has no state."""
        return next((each for each in self.daemons if each.name == name), Daemon(name))

    def lookup(self, source: str, destination: str, device: str = "") -> Lookup | None:
        """Return the answer of ``ip route get`` for a pair of addresses, or None where it was not asked."""
        wanted = (source, destination, device)
        asked = read_or(self.lookups, ())
        return next((x for x in asked if (x.source, x.destination, x.asked_device) == wanted), None)

    def unreadable(self) -> dict[str, str]:
        """Return the readings that could not be taken, with the reasons."""
        return {name: value.why for name, value in vars(self).items() if isinstance(value, Unreadable)}
