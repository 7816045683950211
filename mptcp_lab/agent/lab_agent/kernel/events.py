"""Netlink events of MPTCP connections, and of links, addresses, routes and rules."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from collections.abc import Callable

from ..basics import Json
from ..sockets import Cancelled, Waker
from .netlink import (
    NETLINK_ADD_MEMBERSHIP,
    NETLINK_GENERIC,
    NETLINK_ROUTE,
    SOL_NETLINK,
    device_name,
    parse_attrs,
    split_messages,
)
from .path_manager import PathManager
from .socket_facts import plain_address, text_address

MPTCP_EVENTS = {
    1: "created",
    2: "established",
    3: "closed",
    6: "announced",
    7: "removed",
    10: "sub_established",
    11: "sub_closed",
    13: "sub_priority",
    15: "listener_created",
    16: "listener_closed",
}
MPTCP_EVENT_ATTRS = {
    1: ("token", "=I"),
    2: ("family", "=H"),
    3: ("loc_id", "=B"),
    4: ("rem_id", "=B"),
    9: ("sport", "!H"),
    10: ("dport", "!H"),
    11: ("backup", "=B"),
    12: ("error", "=B"),
    13: ("flags", "=H"),
    14: ("timeout", "=I"),
    15: ("if_index", "=i"),
    16: ("reset_reason", "=I"),
    17: ("reset_flags", "=I"),
    18: ("server_side", "=B"),
}
MPTCP_EVENT_ADDRESSES = {5: "saddr", 6: "saddr", 7: "daddr", 8: "daddr"}
# RTMGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV4_RULE, _IPV6_IFADDR, _IPV6_ROUTE, RTNLGRP_IPV6_RULE
ROUTE_GROUPS = 0x1 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | (1 << 18)
# include/uapi/linux/rtnetlink.h, if_link.h, if_addr.h; rules use the same attribute numbers as routes
RTM_NEWLINK, RTM_DELLINK, RTM_NEWADDR, RTM_DELADDR = 16, 17, 20, 21
RTM_NEWROUTE, RTM_DELROUTE, RTM_NEWRULE, RTM_DELRULE = 24, 25, 32, 33
IFF_UP, IFLA_IFNAME, IFLA_CARRIER, IFA_ADDRESS, IFA_LOCAL = 1, 3, 33, 1, 2
RTA_DST, RTA_OIF, RTA_TABLE = 1, 4, 15
IFINFOMSG, IFADDRMSG, RTMSG = 16, 8, 12  # lengths in bytes of the structures before the attributes
ROUTE_EVENTS = {
    RTM_NEWLINK: "link",
    RTM_DELLINK: "link_removed",
    RTM_NEWADDR: "address",
    RTM_DELADDR: "address_removed",
    RTM_NEWROUTE: "route",
    RTM_DELROUTE: "route_removed",
    RTM_NEWRULE: "rule",
    RTM_DELRULE: "rule_removed",
}


def decode_mptcp_event(payload: bytes) -> Json:
    """Return the event in a message of the mptcp_pm_events group (include/uapi/linux/mptcp_pm.h)."""
    event: Json = {"event": "mptcp", "type": MPTCP_EVENTS.get(payload[0], str(payload[0]))}
    for kind, data in parse_attrs(payload[4:]).items():
        if kind in MPTCP_EVENT_ATTRS:
            name, form = MPTCP_EVENT_ATTRS[kind]
            event[name] = struct.unpack_from(form, data)[0]
        elif kind in MPTCP_EVENT_ADDRESSES:
            family = socket.AF_INET if len(data) == 4 else socket.AF_INET6
            event[MPTCP_EVENT_ADDRESSES[kind]] = plain_address(socket.inet_ntop(family, data))
    if "if_index" in event:
        event["device"] = device_name(event["if_index"])
    return event


def decode_route_event(kind: int, payload: bytes) -> Json | None:
    """Return the event in an rtnetlink message, or None if its type is not in ROUTE_EVENTS."""
    if kind not in ROUTE_EVENTS:
        return None
    event: Json = {"event": "network", "type": ROUTE_EVENTS[kind]}
    if kind in (RTM_NEWLINK, RTM_DELLINK):
        attrs = parse_attrs(payload[IFINFOMSG:])
        event["device"] = attrs[IFLA_IFNAME].rstrip(b"\0").decode()
        event["up"] = bool(struct.unpack_from("=I", payload, 8)[0] & IFF_UP)
        if IFLA_CARRIER in attrs:
            event["carrier"] = bool(attrs[IFLA_CARRIER][0])
    elif kind in (RTM_NEWADDR, RTM_DELADDR):
        attrs = parse_attrs(payload[IFADDRMSG:])
        event["device"] = device_name(struct.unpack_from("=I", payload, 4)[0])
        event["address"] = f"{text_address(attrs.get(IFA_LOCAL) or attrs[IFA_ADDRESS])}/{payload[1]}"
    else:
        attrs = parse_attrs(payload[RTMSG:])
        event["table"] = struct.unpack("=I", attrs[RTA_TABLE])[0] if RTA_TABLE in attrs else payload[4]
        event["destination"] = (
            f"{text_address(attrs[RTA_DST])}/{payload[1]}" if RTA_DST in attrs else "default"
        )
        if kind in (RTM_NEWROUTE, RTM_DELROUTE) and RTA_OIF in attrs:
            event["device"] = device_name(struct.unpack("=i", attrs[RTA_OIF])[0])
    return event


class EventWatch:
    """Reports netlink events as they arrive, in two threads, until it is closed."""

    def __init__(self, report: Callable[[Json], None]) -> None:
        self._report = report
        self._waker = Waker()
        self._route = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_ROUTE)
        self._route.bind((0, ROUTE_GROUPS))
        self._mptcp = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_GENERIC)
        self._mptcp.bind((0, 0))
        with PathManager() as manager:
            self._mptcp.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, manager.groups["mptcp_pm_events"])
        self._threads = [
            threading.Thread(target=self._run, args=(sock,), daemon=True)
            for sock in (self._route, self._mptcp)
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, sock: socket.socket) -> None:
        with contextlib.suppress(Cancelled):
            while True:
                self._waker.wait(sock, select.POLLIN)
                try:
                    data = sock.recv(1 << 18)
                except OSError as error:  # ENOBUFS: events arrived faster than they were read
                    self._report({"event": "lost", "at": time.monotonic(), "error": str(error)})
                    continue
                now = time.monotonic()
                for kind, payload in split_messages(data):
                    event = (
                        decode_mptcp_event(payload)
                        if sock is self._mptcp
                        else decode_route_event(kind, payload)
                    )
                    if event is not None:
                        self._report({**event, "at": now})

    def close(self) -> None:
        """Stop the threads and close the sockets."""
        self._waker.wake()
        for thread in self._threads:
            thread.join()
        self._route.close()
        self._mptcp.close()
        self._waker.close()
