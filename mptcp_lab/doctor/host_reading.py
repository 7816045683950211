"""What the doctor reads of one host, as frozen dataclasses. Nothing here touches a host.

A part that this user may not read, or that the host's tools cannot show, is `Unreadable` with the reason: it
is neither empty nor absent. Addresses are texts as ``ip`` prints them, without prefix length; "" means that
there is none. The agent's operation ``examine`` (mptcp_lab/agent/lab_agent/examine) returns the document.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from mptcp_lab.probe.facts import Endpoint, Limits
from mptcp_lab.probe.shapes import Misshapen, read_as

T = TypeVar("T")


@dataclass(frozen=True)
class Unreadable:
    """A reading that could not be taken, and why: "needs root", "nft: not installed"."""

    why: str

    @classmethod
    def from_answer(cls, document: Any) -> Self:
        """Parse {"unreadable": why}; raise `Misshapen` for anything else."""
        if not isinstance(document, dict) or document.keys() != {"unreadable"}:
            raise Misshapen("not unreadable")
        return cls(read_as(str, document["unreadable"]))

    def to_document(self) -> dict[str, str]:
        """Return the document that `from_answer` parses."""
        return {"unreadable": self.why}


NOT_READ = Unreadable("not read")


def read_or(value: T | Unreadable, default: T) -> T:
    """Return a reading, or ``default`` where it could not be taken."""
    return default if isinstance(value, Unreadable) else value


@dataclass(frozen=True)
class HostAddress:
    """An address of a device. ``flags`` are those of ip: tentative, dadfailed, deprecated, temporary, ..."""

    device: str
    address: str
    prefix: int
    scope: str = "global"
    flags: frozenset[str] = frozenset()

    @property
    def family(self) -> int:
        """Return 4 or 6."""
        return 6 if ":" in self.address else 4


@dataclass(frozen=True)
class Link:
    """A network device. ``flags`` has UP, LOWER_UP, NO-CARRIER...

    ``rx_missed`` counts packets that the device lost because the host did not take them in time.
    ``offloads`` says whether tso, gso and gro are on; one that is not known is left out.
    """

    name: str
    is_up: bool = True
    has_carrier: bool = True
    mtu: int = 1500
    mac: str = ""
    kind: str = ""
    master: str = ""
    flags: frozenset[str] = frozenset()
    rx_bytes: int = 0
    tx_bytes: int = 0
    rx_dropped: int = 0
    tx_dropped: int = 0
    rx_packets: int = 0
    rx_missed: int = 0
    offloads: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Route:
    """A route of any table ("main", "101"); ``kind`` is unicast, local, blackhole, unreachable, ..."""

    family: int
    table: str
    destination: str
    device: str = ""
    gateway: str = ""
    source: str = ""
    metric: int = 0
    kind: str = "unicast"
    protocol: str = ""
    mtu: int = 0


@dataclass(frozen=True)
class PolicyRule:
    """A routing rule: ``source`` and ``destination`` are prefixes, "all" for any."""

    family: int
    priority: int
    table: str
    source: str = "all"
    destination: str = "all"
    iif: str = ""
    oif: str = ""
    fwmark: str = ""
    action: str = ""


@dataclass(frozen=True)
class Lookup:
    """The answer of ``ip route get DESTINATION from SOURCE [oif ASKED_DEVICE]``, or its ``error``."""

    source: str
    destination: str
    asked_device: str = ""
    device: str = ""
    gateway: str = ""
    table: str = ""
    mtu: int = 0
    error: str = ""


@dataclass(frozen=True)
class Neighbour:
    """An entry of the neighbour table. ``state`` is REACHABLE, STALE, FAILED, INCOMPLETE, ..."""

    address: str
    device: str
    mac: str = ""
    state: str = ""


@dataclass(frozen=True)
class Listener:
    """A listening socket; ``address`` is "0.0.0.0" or "::" for all addresses.

    ``protocol`` is "mptcp" or "tcp". ``pid`` is 0 where this user may not see the process. ``queue`` is the
    number of connections that wait to be accepted, ``backlog`` the most that may. The kernel's own listeners,
    which MPTCP opens for an endpoint with a port, have no process.
    """

    protocol: str
    address: str
    port: int
    pid: int = 0
    queue: int = 0
    backlog: int = 0
    is_ipv6_only: bool = False


@dataclass(frozen=True)
class Process:
    """A process that listens. ``unit`` is its systemd unit, ``started`` seconds since the boot.

    ``wrappers`` are mapped libraries that turn TCP sockets into MPTCP sockets. ``environment`` has LD_PRELOAD
    and GODEBUG only. ``go_version`` is "go1.24.1" for a Go program. ``is_replaced`` says that its file was
    replaced since it started (a package upgrade). ``is_static`` says that it loads no shared library.
    """

    pid: int
    name: str
    program: str = ""
    arguments: tuple[str, ...] = ()
    unit: str = ""
    started: float = 0.0
    wrappers: Unreadable | tuple[str, ...] = ()
    environment: Unreadable | Mapping[str, str] = field(default_factory=dict)
    go_version: str = ""
    is_replaced: bool = False
    is_static: bool = False


@dataclass(frozen=True)
class Unit:
    """A systemd unit of a listening process, or one of interest that is off.

    ``files`` maps the paths of the unit and its drop-ins to their texts. ``changed`` is when the newest of
    them changed and ``started`` when the unit was started (seconds since the boot; 0: never or unknown).
    ``socket_protocol`` is of the socket unit that activates it.
    """

    name: str
    state: str = ""
    fragment: str = ""
    drop_ins: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    environment: str = ""
    exec_start: str = ""
    needs_reload: bool = False
    started: float = 0.0
    changed: float = 0.0
    triggered_by: str = ""
    socket_protocol: str = ""


@dataclass(frozen=True)
class Configuration:
    """The lines of a service's configuration that open sockets: ``listen``, ``bind`` and ``server`` lines.

    ``changed`` is the modification time in seconds since the boot; negative before it.
    """

    program: str
    path: str
    lines: tuple[str, ...]
    changed: float = 0.0


@dataclass(frozen=True)
class Daemon:
    """A daemon that may manage endpoints, addresses or packets.

    ``name`` is mptcpd, NetworkManager, systemd-networkd, firewalld, ufw or nftables. ``state`` is systemd's
    ActiveState, "" where it is not installed.
    """

    name: str
    state: str = ""
    enabled: str = ""
    version: str = ""
    config: str = ""

    @property
    def is_active(self) -> bool:
        """Return whether it runs."""
        return self.state == "active"


@dataclass(frozen=True)
class NmConnection:
    """An active connection of NetworkManager, with connection.mptcp-flags as nmcli prints it."""

    name: str
    device: str
    mptcp_flags: str = ""


@dataclass(frozen=True)
class Conntrack:
    """The connection tracker: entries, their limit, and those of the port as the kernel prints them."""

    count: int
    maximum: int
    entries: Unreadable | tuple[str, ...] = ()


@dataclass(frozen=True)
class OpenConnection:
    """A connection of the port that another program has: ``protocol`` is "mptcp" or "tcp" (no subflow).

    ``subflows`` are its subflows as pairs of local and remote address; empty where they could not be read.
    ``has_fallen_back`` says that its socket is MPTCP and the connection continues as plain TCP.
    """

    protocol: str
    local: str
    local_port: int
    remote: str
    remote_port: int
    subflows: tuple[tuple[str, str], ...] = ()
    has_fallen_back: bool = False


@dataclass(frozen=True)
class Qdisc:
    """A queue of a device, with the packets that it dropped or delayed and the octets that wait now."""

    device: str
    kind: str
    handle: str = ""
    dropped: int = 0
    overlimits: int = 0
    backlog: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)


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
