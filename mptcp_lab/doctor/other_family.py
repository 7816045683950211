"""Connect over the IP version that the doctor's connection did not use: IPv4 has no IPv6 subflows."""

from __future__ import annotations

import errno
import time

from mptcp_lab.doctor.connection_reading import Attempt, ConnectionReading
from mptcp_lab.doctor.expect import is_proper, usable_addresses
from mptcp_lab.doctor.watch import End
from mptcp_lab.probe.streams import ConnectFailed

#: A path that works answers within this time, with one SYN that is lost.
CONNECT_TIMEOUT_S = 1.5


def choose_pair(client: End, server: End, is_ipv6: bool) -> tuple[str, str]:
    """Return the first addresses of an IP version that have proper ways to one another; "" if none have."""
    for source in usable_addresses(client.reading):
        device = client.reading.device_of(source)
        for target in usable_addresses(server.reading):
            if (":" in source, ":" in target) != (is_ipv6, is_ipv6):
                continue
            there = client.reading.lookup(source, target, device)
            back = server.reading.lookup(target, source)
            if is_proper(client.reading, there) and is_proper(server.reading, back):
                return source, target
    return "", ""


def try_other_family(client: End, server: End, made: ConnectionReading) -> tuple[Attempt, ...]:
    """Connect once over the other IP version, where both hosts have it and the first connection was made."""
    if not made.is_connected:
        return ()
    source, target = choose_pair(client, server, is_ipv6=":" not in made.server_address)
    if not source:
        return ()
    began = time.monotonic()
    try:
        stream = client.probe.connect(target, made.port, "mptcp", source, within=CONNECT_TIMEOUT_S)
    except ConnectFailed as error:
        name = errno.errorcode.get(error.errno or 0, "ETIMEDOUT")
        return (Attempt(source, target, "mptcp", error.seconds, name),)
    stream.close()
    return (Attempt(source, target, "mptcp", time.monotonic() - began),)
