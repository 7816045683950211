"""The doctor's reading of a host's services and their sockets, as frozen dataclasses. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mptcp_lab.doctor.unreadable import Unreadable


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
