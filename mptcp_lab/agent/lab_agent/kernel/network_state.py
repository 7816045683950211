"""Read the network state of a host: all that a check may change, without fields that change by themselves."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any

from ..basics import AgentError, Json
from .host import IP_READINGS, definition, read_ip_batches, read_json_tools, read_sysctls
from .netlink import NETLINK_ROUTE, NLM_F_DUMP, Netlink, device_name, parse_attrs
from .path_manager import PathManager
from .watched import watched_by_nftables, watched_by_route

VOLATILE = {
    "valid_life_time",
    "preferred_life_time",
    "tentative",
    "nodad",
    "expires",
    "used",
    "age",
    "refcnt",
    "stats",
}
AUTOMATIC_HANDLE = re.compile("[89a-f][0-9a-f]{3}:$")  # the kernel's handle for a qdisc added without one
RTM_GETNEIGH, NDA_DST, NDA_LLADDR = 30, 1, 2
NUD_INCOMPLETE, NUD_PERMANENT = 0x01, 0x80


def read_links() -> Json:
    """Return addresses, routes, rules and qdiscs, as ip(8) and tc(8) print them."""
    found = read_ip_batches() | read_json_tools({"qdiscs": IP_READINGS["qdiscs"]})
    for route in found["routes6"] if isinstance(found["routes6"], list) else []:
        # The route of an on-link prefix has protocol kernel, also if a router advertisement announced it.
        if isinstance(route, dict) and "expires" in route:
            route["protocol"] = "ra"
    return {name: without_noise(document) for name, document in found.items()}


def read_filter() -> Json:
    """Return the packet filter, as nft(8) prints it."""
    return {"nft": without_noise(read_json_tools({"nft": IP_READINGS["nft"]})["nft"])}


def read_neighbours() -> Json:
    """Return the permanent neighbours, and as text those that are being resolved."""
    with Netlink(NETLINK_ROUTE) as netlink:
        answers = netlink.request(RTM_GETNEIGH, struct.pack("=12x"), NLM_F_DUMP)
    permanent, resolving = list[Json](), list[str]()
    for answer in answers:
        family, index, state = struct.unpack_from("=B3xiH", answer)
        attributes = parse_attrs(answer[12:])
        if family not in (socket.AF_INET, socket.AF_INET6) or NDA_DST not in attributes:
            continue
        to, device = socket.inet_ntop(family, attributes[NDA_DST]), device_name(index)
        if state & NUD_PERMANENT:
            hardware = attributes.get(NDA_LLADDR, b"").hex(":")
            permanent.append({"dst": to, "dev": device, "lladdr": hardware, "state": ["PERMANENT"]})
        elif state & NUD_INCOMPLETE:
            resolving.append(f"{to} on {device}")
    return {"permanent_neighbours": permanent, "resolving": resolving}


def network_state(readings: Sequence[Callable[[], Json]] = (read_links, read_filter)) -> Json:
    """Return the parts of a host's network state (`definition`), without fields that change by themselves.

    The neighbours that are being resolved (`resolving`) come with them. Parts that the kernel does not have
    are left out. `readings` are the ones that run programs, or `watched_readings` in their place.
    """
    state: Json = {}
    for read in readings:
        state |= read()
    state |= read_neighbours()
    with contextlib.suppress(AgentError), PathManager() as manager:
        state["endpoints"] = manager.endpoints()
        state["limits"] = manager.limits()
    state["sysctls"] = read_sysctls()
    names = [*definition()["parts"], "resolving"]
    return {name: state[name] for name in names if name in state}


def watched_readings() -> Sequence[Callable[[], Json]]:
    """Return the readings that run programs, each kept until the kernel reports a change of what it reads."""
    return watched_by_route(read_links), watched_by_nftables(read_filter)


def without_noise(value: Any) -> Any:
    """Return a document without volatile fields: lifetimes, counters, handles that the kernel chose."""
    if isinstance(value, list):
        kept = [without_noise(item) for item in value if not (isinstance(item, dict) and "metainfo" in item)]
        return [item for item in kept if item not in ({}, None)]
    if not isinstance(value, dict):
        return value
    drop = set(VOLATILE)
    if "family" in value or AUTOMATIC_HANDLE.match(str(value.get("handle", ""))):
        drop.add("handle")
    kept_fields = {key: without_noise(item) for key, item in value.items() if key not in drop}
    if "counter" in kept_fields and isinstance(kept_fields["counter"], dict):
        kept_fields["counter"] = {
            key: item for key, item in kept_fields["counter"].items() if key not in ("packets", "bytes")
        }
    return kept_fields
