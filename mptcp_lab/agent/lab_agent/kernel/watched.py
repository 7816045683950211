"""Keep what programs print about the network until the kernel reports a change.

A comparison then runs no program on a host without a change: two netlink sockets show it.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
from collections.abc import Callable, Sequence

from ..basics import Json
from .netlink import NETLINK_ADD_MEMBERSHIP, NETLINK_NETFILTER, NETLINK_ROUTE, SOL_NETLINK

#: Groups of notifications about links, qdiscs, addresses, routes, rules, nexthops, and the settings of IPv6
#: and forwarding (linux/rtnetlink.h). Neighbours are left out: they change with every connection.
ROUTE_GROUPS = (1, 4, 5, 7, 8, 9, 11, 12, 19, 24, 25, 32)
#: NFNLGRP_NFTABLES (linux/netfilter/nfnetlink.h).
NFTABLES_GROUPS = (7,)
#: Entries of nft(8) with elements: packets can add and remove them, and time can, without a notification.
UNREPORTED = {"set", "map", "meter"}

Read = Callable[[], Json]


class Watch:
    """The notifications of some netlink groups.

    The kernel queues them before the system call returns that makes the change. An IPv4 route that goes with
    its device or its source address has no notification, but the device or the address has one.
    """

    def __init__(self, protocol: int, groups: Sequence[int]) -> None:
        self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        try:
            self._sock.setblocking(False)
            self._sock.bind((0, 0))
            for group in groups:
                self._sock.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)
        except BaseException:
            self._sock.close()
            raise

    def take(self) -> bool:
        """Return whether anything was reported since the last call, or the kernel had no room for reports."""
        found = False
        while True:
            try:
                self._sock.recv(1)  # the rest of the datagram is discarded
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
            found = True


class WatchedReading:
    """A reading that runs again only after a notification, or if its last result may not be kept."""

    def __init__(self, read: Read, protocol: int, groups: Sequence[int]) -> None:
        self._read = read
        self._watch: Watch | None = None
        with contextlib.suppress(OSError):  # without the rights or the protocol, every call reads
            self._watch = Watch(protocol, groups)
        self._kept: Json | None = None
        self._lock = threading.Lock()

    def __call__(self) -> Json:
        """Return what the reading returns now.

        The notifications are taken first: a change during the reading makes the next call read again.
        """
        with self._lock:
            is_changed = self._watch is None or self._watch.take()
            if is_changed or self._kept is None:
                found = self._read()
                self._kept = found if is_constant(found) else None
                return found
            return self._kept


def is_constant(found: Json) -> bool:
    """Return whether a reading may be kept: no error is in it, and nothing that changes unreported."""
    documents = [document for document in found.values() if isinstance(document, dict)]
    entries = [entry for document in documents for entry in document.get("nftables", ())]
    return not any("error" in document for document in documents) and not any(
        UNREPORTED.intersection(entry) for entry in entries
    )


def watched_by_route(read: Read) -> WatchedReading:
    """Return a reading of links, qdiscs, addresses, routes and rules, kept until one of them changes."""
    return WatchedReading(read, NETLINK_ROUTE, ROUTE_GROUPS)


def watched_by_nftables(read: Read) -> WatchedReading:
    """Return a reading of the packet filter that is kept until its rules change."""
    return WatchedReading(read, NETLINK_NETFILTER, NFTABLES_GROUPS)
