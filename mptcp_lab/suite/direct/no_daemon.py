"""Check a server without a daemon, although the hosts of an embedded lab share a kernel (DIRECT-24).

To the kernel a daemon is a listener to the path manager's events in any network namespace
(netlink_has_listeners, net/netlink/af_netlink.c), not only in that of the connection.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from mptcp_lab.errors import Inconclusive
from mptcp_lab.machines.session import Machine
from mptcp_lab.patience import patient

#: NETLINK_GENERIC (include/uapi/linux/netlink.h).
GENERIC_NETLINK = "16"
#: A listener elsewhere that remains for longer leaves the check undecided.
LISTENER_TIMEOUT_S = 20.0


def without_daemon(server: Machine, check: Callable[[], None]) -> None:
    """Run a check of a server without a daemon, again while one may listen in a namespace of another lab.

    Raises:
        Inconclusive: it failed until the end of the time, and no program listens in the server's namespace.
    """

    deadline = time.monotonic() + patient(LISTENER_TIMEOUT_S)
    while True:
        try:
            return check()
        except AssertionError as breach:
            if server.lab.flavour != "embedded" or event_listeners(server):
                raise
            if time.monotonic() > deadline:
                raise Inconclusive(
                    server.name,
                    f"as if a program outside of the lab listened to MPTCP events of this kernel: {breach}",
                    "end `ip mptcp monitor`, mptcpd and other labs on this machine, and run the check again",
                ) from breach


def event_listeners(machine: Machine) -> list[str]:
    """Return the ports of generic netlink sockets of a machine's own namespace that listen to events.

    Columns of /proc/net/netlink: socket, protocol, port, the first 32 groups as a mask.
    """
    rows = [line.split() for line in machine.probe.run(["cat", "/proc/net/netlink"]).stdout.splitlines()]
    return [row[2] for row in rows if row[1] == GENERIC_NETLINK and int(row[3], 16)]
