"""Check single values of an inventory. Every function returns the value or raises `InventoryError`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import (
    IPv4Interface,
    IPv4Network,
    IPv6Interface,
    IPv6Network,
    ip_interface,
    ip_network,
)
from typing import Any

from mptcp_lab.inventory.errors import InventoryError
from mptcp_lab.inventory.variables import suggestion

Interface = IPv4Interface | IPv6Interface
Network = IPv4Network | IPv6Network

RATE = re.compile(r"[1-9][0-9]{0,5}(k|m|g)bit")
TIME = re.compile(r"[1-9][0-9]{0,6}(ms|s|m|h)")
#: Names that the kernel accepts (dev_valid_name), less the characters special to a shell, sysctl or nftables.
DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,14}")
#: The loopback, and names that mean every interface below net.ipv4.conf.
RESERVED_DEVICES = ("lo", "all", "default")
HOSTNAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
#: An address or network with its prefix length in digits: no scope, no netmask, no host mask.
WITH_PREFIX = re.compile(r"[0-9a-fA-F.:]+/[0-9]{1,3}")
#: The shortest prefix length of a segment by IP version: a shorter one is a part of the Internet, not an L2
#: network.
SHORTEST_PREFIX = {4: 8, 6: 16}
LONGEST_PREFIX = {4: 31, 6: 127}


def choice(host: str, variable: str, value: Any, allowed: tuple[str, ...]) -> str:
    """Return one of the allowed words; a boolean means on or off, as YAML 1.1 reads these words."""
    if isinstance(value, bool):
        value = "on" if value else "off"
    if not isinstance(value, str) or value not in allowed:
        hint = suggestion(str(value), allowed, 0.6)
        raise InventoryError(
            host, variable, f"{value!r} is not one of {', '.join(allowed)}{hint}", allowed[0]
        )
    return value


def boolean(host: str, variable: str, value: Any) -> bool:
    """Return a YAML boolean; refuse a text such as "false"."""
    if not isinstance(value, bool):
        raise InventoryError(host, variable, f"{value!r} is not true or false", "true")
    return value


def whole_number(
    host: str, variable: str, value: Any, low: int, high: int, what: str = "a whole number"
) -> int:
    """Return an integer from ``low`` to ``high``; ``what`` describes it in the error message."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InventoryError(host, variable, f"{value!r} is not {what} ({low} to {high})", str(max(low, 1)))
    return value


def port(host: str, variable: str, value: Any) -> int:
    """Return a TCP port; refuse port 22, on which SSH listens."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 65536:
        raise InventoryError(host, variable, f"{value!r} is not a port number", "7000")
    if value == 22:
        raise InventoryError(host, variable, "22 is the port of SSH, which manages the host", "7000")
    return value


def name(host: str, variable: str, value: Any, example: str, longest: int = 63) -> str:
    """Return a lower-case name (a-z, 0-9 and -) of at most ``longest`` characters."""
    if not isinstance(value, str) or not HOSTNAME.fullmatch(value) or len(value) > longest:
        problem = f"{value!r} is not a short lower-case name (at most {longest} of a-z, 0-9 and -)"
        raise InventoryError(host, variable, problem, example)
    return value


def device(host: str, variable: str, value: Any, example: str) -> str:
    """Return the name of a network device; refuse lo, all and default."""
    if value is None:
        raise InventoryError(host, variable, "a NIC needs its device name", example)
    if not isinstance(value, str) or not DEVICE.fullmatch(value):
        problem = f"{value!r} is not a device name (at most 15 of letters, digits, . _ and -)"
        raise InventoryError(host, variable, problem, example)
    if value in RESERVED_DEVICES:
        raise InventoryError(host, variable, f"{value} is not a device that a lab can use as NIC", example)
    return value


def duration(host: str, variable: str, value: Any) -> str:
    """Return a time such as 500ms, or the empty string if none is given."""
    if value == "" and isinstance(value, str):
        return value
    if not isinstance(value, str) or not TIME.fullmatch(value):
        raise InventoryError(host, variable, f"{value!r} is not a time (a number and ms, s, m or h)", "500ms")
    return value


def rate(host: str, variable: str, value: Any) -> str | None:
    """Return a link's rate such as 100mbit, or None if none is given."""
    if value is not None and (not isinstance(value, str) or not RATE.fullmatch(value)):
        raise InventoryError(
            host, variable, f"{value!r} is not a rate (a number and kbit, mbit or gbit)", "100mbit"
        )
    return value


def mapping(host: str, variable: str, value: Any, example: str) -> Mapping[str, Any]:
    """Return ``value`` if it is a mapping."""
    if not isinstance(value, Mapping):
        raise InventoryError(host, variable, f"expected a mapping, got {value!r}", example)
    return value


def entries(host: str, variable: str, value: Any, example: str) -> list[Mapping[str, Any]]:
    """Return ``value`` if it is a list of mappings."""
    if not isinstance(value, list):
        raise InventoryError(host, variable, f"expected a list, got {value!r}", f"[{example}]")
    return [mapping(host, f"{variable}[{i}]", entry, example) for i, entry in enumerate(value)]


def known_keys(host: str, variable: str, entry: Mapping[str, Any], keys: str, example: str) -> None:
    """Refuse a mapping with a key that is not among the words of ``keys``."""
    for key in entry:
        if key not in keys.split():
            hint = suggestion(str(key), keys.split(), 0.6)
            raise InventoryError(
                host, f"{variable}.{key}", f"unknown key {key!r} (known: {keys}){hint}", example
            )


def interface(host: str, variable: str, value: Any, version: int, example: str) -> Any:
    """Return an address of an IP version with its prefix length, or None if none is given."""
    if value is None:
        return None
    _check_prefix_text(host, variable, value, example)
    try:
        found = ip_interface(value)
    except ValueError as error:
        raise InventoryError(host, variable, str(error), example) from None
    _check_version(host, variable, value, found.version, version, example)
    return found


def network(host: str, variable: str, value: Any, version: int, example: str) -> Any:
    """Return a segment's network, or None if none is given; refuse networks that no lab can use."""
    if value is None:
        return None
    _check_prefix_text(host, variable, value, example)
    try:
        found = ip_network(value)
    except ValueError as error:
        raise InventoryError(host, variable, str(error), example) from None
    _check_version(host, variable, value, found.version, version, example)
    kinds = {
        "loopback": found.is_loopback,
        "multicast": found.is_multicast,
        "link-local": found.is_link_local,
        "reserved": found.version == 4 and found.is_reserved,
    }
    for kind, applies in kinds.items():
        if applies:
            raise InventoryError(host, variable, f"{found} is {kind}", example)
    if not SHORTEST_PREFIX[version] <= found.prefixlen <= LONGEST_PREFIX[version]:
        problem = (
            f"{found}: a segment's prefix length is {SHORTEST_PREFIX[version]} to {LONGEST_PREFIX[version]}"
        )
        raise InventoryError(host, variable, problem, example)
    return found


def check_usable(host: str, variable: str, given: Interface, example: str) -> None:
    """Refuse a network's first address and, for IPv4, its broadcast address, except in a /31 or /127."""
    if given.version == 4 and given.network.prefixlen < 31 and given.ip == given.network.broadcast_address:
        raise InventoryError(
            host, variable, f"{given.ip} is the broadcast address of {given.network}", example
        )
    is_first = given.ip == given.network.network_address
    if is_first and given.network.prefixlen < LONGEST_PREFIX[given.version]:
        raise InventoryError(host, variable, f"{given.ip} is the network {given.network} itself", example)


def _check_prefix_text(host: str, variable: str, value: Any, example: str) -> None:
    if not isinstance(value, str) or not WITH_PREFIX.fullmatch(value):
        problem = f"{value!r} is not an address with a prefix length in digits"
        raise InventoryError(host, variable, problem, example)


def _check_version(host: str, variable: str, value: Any, found: int, wanted: int, example: str) -> None:
    if found != wanted:
        raise InventoryError(host, variable, f"{value} is not IPv{wanted}", example)
