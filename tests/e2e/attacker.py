"""A stranger on one of the lab's segments: a network namespace whose only NIC is plugged into a bridge.

    with attacker(configured.own, "path1") as stranger:
        stranger.advertise(dst="ff02::1", prefix="2001:db8:bad::/64")
        stranger.python("import socket; ...", "198.18.1.21", "7002")

The lab has no record of this host: no inventory, no probe. `tests/e2e` uses it for what an unprivileged
neighbour on a path could send: router advertisements, PROXY headers, packets to management networks.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_interface, ip_network

from mptcp_lab.labs.errors import EmbeddedError
from mptcp_lab.labs.executor import LOCAL
from mptcp_lab.probe import eventually
from tests.labs import OwnLab

DEVICE = "eth0"
MANAGEMENT = "mgmt0"
#: The stranger takes the 88th address of a segment, in both families; the lab's own attacker has the 66th.
NUMBER = 88
#: Advertisements count only from a link-local address.
ROUTER = f"fe80::{NUMBER}/64"
PYTHON_TIMEOUT_S = 60
#: Sends one router advertisement per second, COUNT times; arguments: DEVICE DESTINATION PREFIX COUNT.
ADVERTISE = r"""
import ipaddress, socket, struct, sys, time

device, destination, prefix, count = sys.argv[1:]
network = ipaddress.ip_network(prefix)
hour = 3600
header = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, hour, 0, 0)
option = struct.pack("!BBBBIII", 3, 4, network.prefixlen, 0xC0, hour, hour, 0)
option += network.network_address.packed
with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as raw:
    index = socket.if_nametoindex(device)
    raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
    raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 255)
    raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
    for number in range(int(count)):
        if number:
            time.sleep(1)
        raw.sendto(header + option, (destination, 0, 0, index))
"""


@dataclass(frozen=True)
class Attacker:
    """A network namespace on a segment, with an address of each family there."""

    netns: str
    ipv4: str
    ipv6: str

    def run(self, *argv: str) -> str:
        """Run a command in the namespace and return what it printed; it must succeed."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.netns, *argv],
            capture_output=True,
            text=True,
            timeout=PYTHON_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def python(self, source: str, *arguments: str) -> str:
        """Run a Python program in the namespace and return what it printed."""
        return self.run(sys.executable, "-I", "-c", source, *arguments)

    def start(self, source: str, *arguments: str) -> subprocess.Popen[str]:
        """Start a Python program in the namespace; the caller ends it."""
        command = ["ip", "netns", "exec", self.netns, sys.executable, "-I", "-c", source, *arguments]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def route(self, to: str, via: str) -> None:
        """Send packets to a network by way of a neighbour."""
        LOCAL.ip_batch(self.netns, [f"route replace {to} via {via}"])

    def settled(self) -> None:
        """Wait until no packet waits for a neighbour's link-layer address any more."""
        eventually(
            lambda: self.run("ip", "neighbour", "show", "nud", "incomplete"), lambda left: not left, within=10
        )

    def advertise(self, prefix: str, *, to: str = "ff02::1", count: int = 1) -> None:
        """Send router advertisements that offer this host as router, and a prefix to make addresses from."""
        self.python(ADVERTISE, DEVICE, to, prefix, str(count))


def remove(other: str, device: str, netns: str) -> None:
    """Remove a cable by its end in another namespace, then the namespace, whose links go with a delay."""
    with suppress(EmbeddedError):  # it was not plugged in yet
        LOCAL.ip_batch(other, [f"link del {device}"])
    LOCAL.ip_batch(None, [f"netns del {netns}"])


@contextmanager
def behind(own: OwnLab, host: str) -> Iterator[Attacker]:
    """Give a host a NIC that is not the lab's, `mgmt0`, and a neighbour there, as on a management network."""
    netns, inside = f"{own.paths.prefix}behind", own.paths.netns(host)
    LOCAL.ip_batch(None, [f"netns add {netns}"])
    try:
        LOCAL.ip_batch(inside, [f"link add {MANAGEMENT} type veth peer name {DEVICE} netns {netns}"])
        for name, device, number in ((inside, MANAGEMENT, 1), (netns, DEVICE, 2)):
            LOCAL.ip_batch(
                name,
                [
                    f"address add 203.0.113.{number}/24 dev {device}",
                    f"address add 2001:db8:113::{number}/64 dev {device} nodad",
                    f"link set {device} up",
                ],
            )
        yield Attacker(netns, "203.0.113.2", "2001:db8:113::2")
    finally:
        remove(inside, MANAGEMENT, netns)


@contextmanager
def attacker(own: OwnLab, segment: str = "path1") -> Iterator[Attacker]:
    """Plug an attacker into a segment of a lab that is up; unplug it in the end."""
    wanted = own.lab.segments[segment]
    netns, port = f"{own.paths.prefix}stranger", f"stranger.{segment}"[:15]
    ipv4, ipv6 = (
        ip_interface(f"{network[NUMBER]}/{network.prefixlen}")
        for network in (ip_network(str(wanted.ipv4)), ip_network(str(wanted.ipv6)))
    )
    LOCAL.ip_batch(None, [f"netns add {netns}"])
    try:
        LOCAL.ip_batch(
            own.paths.fabric,
            [
                f"link add {port} type veth peer name {DEVICE} netns {netns}",
                f"link set {port} addrgenmode none master {segment} up",
            ],
        )
        LOCAL.ip_batch(
            netns,
            [
                "link set lo up",
                f"link set {DEVICE} addrgenmode none",
                f"address add {ROUTER} dev {DEVICE} scope link nodad",
                f"link set {DEVICE} up",
                f"address add {ipv4} dev {DEVICE}",
                f"address add {ipv6} dev {DEVICE} nodad",
            ],
        )
        yield Attacker(netns, str(ipv4.ip), str(ipv6.ip))
    finally:
        remove(own.paths.fabric, port, netns)
