"""Close one TCP socket of the host by netlink, as `ss --kill` does (include/uapi/linux/inet_diag.h)."""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct

from ..basics import AgentError
from .netlink import Netlink

NETLINK_SOCK_DIAG = 4
SOCK_DESTROY = 21
ANY_STATE = 0xFFFFFFFF
NO_COOKIE = 0xFFFFFFFF
LACKING = (errno.EOPNOTSUPP, errno.EINVAL)


def destroy_socket(local: tuple[str, int], remote: tuple[str, int]) -> None:
    """Abort the TCP connection between two addresses (address and port); the kernel sends RST to the peer.

    Raises AgentError "unsupported" if the kernel cannot do it (CONFIG_INET_DIAG_DESTROY), and "refused" if it
    has no such socket.
    """
    # The kernel finds a socket that is bound to a device by the number of that device only.
    indices = [0, *(index for index, _ in socket.if_nameindex())]
    with Netlink(NETLINK_SOCK_DIAG) as netlink:
        for index in indices:
            try:
                netlink.request(SOCK_DESTROY, _request(local, remote, index))
            except OSError as error:
                if error.errno in LACKING:
                    raise AgentError(
                        "unsupported", f"SOCK_DESTROY: {error}", error.errno, capability="INET_DIAG_DESTROY"
                    ) from None
                if error.errno != errno.ENOENT:
                    raise
            else:
                return
    raise AgentError(
        "refused", f"there is no TCP socket from {local[0]}:{local[1]} to {remote[0]}:{remote[1]}"
    )


def _request(local: tuple[str, int], remote: tuple[str, int], index: int) -> bytes:
    """Return a struct inet_diag_req_v2 that names one socket."""
    source, destination = (ipaddress.ip_address(end[0]).packed for end in (local, remote))
    family = socket.AF_INET if len(source) == 4 else socket.AF_INET6
    return (
        struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 0, 0, ANY_STATE)
        + struct.pack("!HH", local[1], remote[1])
        + source.ljust(16, b"\0")
        + destination.ljust(16, b"\0")
        + struct.pack("=III", index, NO_COOKIE, NO_COOKIE)
    )
