"""The doctor's reading of a host's network, as frozen dataclasses: addresses, devices, routes, queues. Pure.

Addresses are texts as ``ip`` prints them, without prefix length; "" means that there is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


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
class Qdisc:
    """A queue of a device, with the packets that it dropped or delayed and the octets that wait now."""

    device: str
    kind: str
    handle: str = ""
    dropped: int = 0
    overlimits: int = 0
    backlog: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
