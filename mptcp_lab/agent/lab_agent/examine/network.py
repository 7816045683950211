"""Read addresses, links, routes, rules, neighbours and queues of the host, and ask for routes."""

from __future__ import annotations

import errno
import functools
import ipaddress
import json
import os
import socket
import struct
from typing import Any

from ..basics import Json
from ..kernel.host import read_nics
from ..kernel.netlink import NETLINK_ROUTE, Netlink, device_name, pack_attr, parse_attrs
from .basics import Tool, attempt
from .offloads import read_missed, read_offloads, read_received

READINGS = {
    "addresses": ("ip", "-j", "-d", "address", "show"),
    "routes4": ("ip", "-j", "-4", "route", "show", "table", "all"),
    "routes6": ("ip", "-j", "-6", "route", "show", "table", "all"),
    "rules4": ("ip", "-j", "-4", "rule", "show"),
    "rules6": ("ip", "-j", "-6", "rule", "show"),
    "neighbours": ("ip", "-j", "neighbour", "show"),
    "qdiscs": ("tc", "-j", "-s", "qdisc", "show"),
}
ADDRESS_FLAGS = ("tentative", "dadfailed", "deprecated", "temporary", "noprefixroute", "secondary")
#: Routes of the kernel that say nothing: they follow from the addresses.
DERIVED = ("local", "broadcast", "anycast", "multicast")
# include/uapi/linux/rtnetlink.h
RTM_GETROUTE, RTM_F_LOOKUP_TABLE = 26, 0x1000
RTA_DST, RTA_SRC, RTA_OIF, RTA_GATEWAY, RTA_METRICS, RTA_TABLE, RTA_VIA = 1, 2, 4, 5, 8, 15, 18
RTAX_MTU = 2
TABLES = {253: "default", 254: "main", 255: "local"}


def start_tools() -> dict[str, Tool]:
    """Start the programs whose output `read_network` parses."""
    return {name: Tool(argv) for name, argv in READINGS.items()}


def read_network(tools: dict[str, Tool]) -> Json:
    """Return the parts of the host's reading that are about its network."""
    shown = {name: attempt(functools.partial(parse_output, tool)) for name, tool in tools.items()}
    nics = read_nics()
    return {
        "addresses": convert(shown["addresses"], addresses_of),
        "links": convert(shown["addresses"], lambda entry: [link_of(entry, nics)]),
        "routes": join_lists(
            *(convert(shown[f"routes{v}"], functools.partial(route_of, family=v)) for v in (4, 6))
        ),
        "rules": join_lists(
            *(convert(shown[f"rules{v}"], functools.partial(rule_of, family=v)) for v in (4, 6))
        ),
        "neighbours": convert(shown["neighbours"], lambda entry: [neighbour_of(entry)]),
        "qdiscs": convert(shown["qdiscs"], lambda entry: [qdisc_of(entry)]),
    }


def parse_output(tool: Tool) -> list[Json]:
    """Return the objects that a program printed."""
    return parse(tool.output())


def parse(text: str) -> list[Json]:
    """Return the objects that ip or tc printed as JSON, without the empty ones."""
    document = json.loads(text or "[]")
    if not isinstance(document, list):
        raise ValueError("no list")
    return [entry for entry in document if isinstance(entry, dict) and entry]


def convert(entries: Any, make: Any) -> Any:
    """Return the entries' documents, or the reading itself if it is unreadable."""
    if isinstance(entries, dict):
        return entries
    return attempt(lambda: [document for entry in entries for document in make(entry)])


def join_lists(one: Any, other: Any) -> Any:
    """Return both lists as one; an unreadable one makes both unreadable."""
    return next((each for each in (one, other) if isinstance(each, dict)), None) or [*one, *other]


def addresses_of(entry: Json) -> list[Json]:
    """Return the addresses of one device."""
    return [
        {
            "device": entry["ifname"],
            "address": each["local"],
            "prefix": each["prefixlen"],
            "scope": each.get("scope", ""),
            "flags": [flag for flag in ADDRESS_FLAGS if each.get(flag)],
        }
        for each in entry.get("addr_info", [])
        if "local" in each
    ]


def link_of(entry: Json, nics: Json) -> Json:
    """Return one network device, with its traffic."""
    flags = entry.get("flags", [])
    traffic = nics.get(entry["ifname"], {})
    return {
        "name": entry["ifname"],
        "is_up": "UP" in flags,
        "has_carrier": "LOWER_UP" in flags,
        "mtu": entry.get("mtu", 0),
        "mac": entry.get("address", ""),
        "kind": entry.get("linkinfo", {}).get("info_kind", "") or entry.get("link_type", ""),
        "master": entry.get("master", ""),
        "flags": flags,
        **{name: traffic.get(name, 0) for name in ("rx_bytes", "tx_bytes", "rx_dropped", "tx_dropped")},
        "rx_packets": read_received(entry["ifname"]),
        "rx_missed": read_missed(entry["ifname"]),
        "offloads": read_offloads(entry["ifname"]),
    }


def route_of(entry: Json, family: int) -> list[Json]:
    """Return one route; one with several next hops as a route for each, none for a derived one."""
    kind = entry.get("type", "unicast")
    if kind in DERIVED or entry.get("table") == "local":
        return []
    gateway = entry.get("gateway") or entry.get("via", {}).get("host", "")
    metrics = entry.get("metrics", [{}])
    common = {
        "family": family,
        "table": str(entry.get("table", "main")),
        "destination": entry["dst"],
        "source": entry.get("prefsrc", ""),
        "metric": entry.get("metric", 0),
        "kind": kind,
        "protocol": str(entry.get("protocol", "")),
        "mtu": metrics[0].get("mtu", 0) if metrics else 0,
    }
    hops = entry.get("nexthops") or [{"dev": entry.get("dev", ""), "gateway": gateway}]
    return [{**common, "device": hop.get("dev", ""), "gateway": hop.get("gateway", "")} for hop in hops]


def rule_of(entry: Json, family: int) -> list[Json]:
    """Return one routing rule."""

    def prefix(name: str) -> str:
        length = entry.get(f"{name}len")
        return str(entry.get(name, "all")) + (f"/{length}" if length is not None else "")

    rule = {
        "family": family,
        "priority": entry.get("priority", 0),
        "table": str(entry.get("table", "")),
        "source": prefix("src"),
        "destination": prefix("dst"),
        "iif": entry.get("iif", ""),
        "oif": entry.get("oif", ""),
        "fwmark": str(entry.get("fwmark", "")),
        "action": entry.get("action", ""),
    }
    return [rule]


def neighbour_of(entry: Json) -> Json:
    """Return one neighbour."""
    states = entry.get("state", [])
    return {
        "address": entry["dst"],
        "device": entry.get("dev", ""),
        "mac": entry.get("lladdr", ""),
        "state": states[0] if states else "",
    }


def qdisc_of(entry: Json) -> Json:
    """Return one queue."""
    return {
        "device": entry.get("dev", ""),
        "kind": entry["kind"],
        "handle": entry.get("handle", ""),
        "dropped": entry.get("drops", 0),
        "overlimits": entry.get("overlimits", 0),
        "backlog": entry.get("backlog", 0),
        "options": entry.get("options", {}),
    }


def look_up(pairs: list[list[str]]) -> list[Json]:
    """Ask the kernel for the route of each [source, destination, device]; "" is any device.

    These are the answers of `ip route get DESTINATION from SOURCE oif DEVICE`.
    """
    with Netlink(NETLINK_ROUTE) as netlink:
        return [look_up_one(netlink, *pair) for pair in pairs]


def look_up_one(netlink: Netlink, source: str, destination: str, device: str) -> Json:
    """Ask the kernel for one route."""
    asked = {"source": source, "destination": destination, "asked_device": device}
    try:
        here, there = ipaddress.ip_address(source).packed, ipaddress.ip_address(destination).packed
        family = socket.AF_INET if len(there) == 4 else socket.AF_INET6
        request = struct.pack(
            "=8BI", family, 8 * len(there), 8 * len(here), 0, 0, 0, 0, 0, RTM_F_LOOKUP_TABLE
        )
        request += pack_attr(RTA_DST, there) + pack_attr(RTA_SRC, here)
        if device:
            request += pack_attr(RTA_OIF, struct.pack("=I", socket.if_nametoindex(device)))
        answer = netlink.request(RTM_GETROUTE, request, 0x4)[0]
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "")
        return {**asked, "error": f"{name}: {os.strerror(error.errno or 0)}"}
    attrs = parse_attrs(answer[12:])
    return {**asked, **answer_of(attrs, answer[4])}


def answer_of(attrs: dict[int, bytes], table: int) -> Json:
    """Return device, gateway, table and MTU of a route that the kernel answered."""
    gateway = attrs.get(RTA_GATEWAY) or attrs.get(RTA_VIA, b"")[2:]
    if RTA_TABLE in attrs:
        table = struct.unpack("=I", attrs[RTA_TABLE])[0]
    metrics = parse_attrs(attrs.get(RTA_METRICS, b""))
    return {
        "device": device_name(struct.unpack("=i", attrs[RTA_OIF])[0]) if RTA_OIF in attrs else "",
        "gateway": str(ipaddress.ip_address(gateway)) if gateway else "",
        "table": TABLES.get(table, str(table)),
        "mtu": struct.unpack("=I", metrics[RTAX_MTU])[0] if RTAX_MTU in metrics else 0,
    }
