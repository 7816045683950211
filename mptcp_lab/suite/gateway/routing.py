"""Read a host's routes, and find the ways that its packets really take."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import ndiff
from ipaddress import ip_address
from pathlib import Path

from mptcp_lab.errors import Inconclusive
from mptcp_lab.inventory.model import Lab
from mptcp_lab.machines.session import Machine
from mptcp_lab.suite.expectations import origin_of
from mptcp_lab.suite.find.hosts import find_address_behind, find_address_on
from mptcp_lab.suite.gateway import path_probe
from mptcp_lab.suite.traffic import Target

READINGS = tuple(f"ip -{v} {what}" for v in (4, 6) for what in ("route show table all", "rule show"))


def address_behind(router: Machine, client: Machine, server: Machine) -> str:
    """Return an address of B that A reaches only through the router."""
    return find_address_behind(router.host, client.host, server.host)


def routed_target(router: Machine, client: Machine, server: Machine) -> Target:
    """Return a server's origin at an address that the client reaches only through the router."""
    origin = origin_of(server)
    return Target(server, origin, server, origin, to=address_behind(router, client, server))


def on_segment(machine: Machine, segment: str) -> str:
    """Return a machine's IPv4 address on a segment; `Unsupported` when it has none there."""
    return find_address_on(machine.host, segment)


def network_of(lab: Lab, address: str) -> str:
    """Return the network of the segment that an IPv4 address is on."""
    networks = (segment.ipv4 for segment in lab.segments.values())
    return next(str(network) for network in networks if network and ip_address(address) in network)


def way(machine: Machine, source: str, destination: str) -> list[str]:
    """Return the address that answers at each hop from a source address (path_probe.py).

    The last one is the destination, unless the list ends early because no router answers.
    """
    text = Path(path_probe.__file__).read_text()
    return machine.probe.run(["python3", "-", source, destination], stdin=text).stdout.split()


def chosen_route(machine: Machine, source: str, destination: str) -> tuple[str, str]:
    """Return (next hop, device) that the kernel chooses for packets from a source address.

    Raises:
        Inconclusive: `ip route get` named no device.
    """
    done = machine.probe.run(["ip", "-o", "route", "get", destination, "from", source])
    words = done.stdout.split()
    if "dev" not in words[:-1]:
        said = (done.stderr or done.stdout).strip()
        raise Inconclusive(
            machine.name, f"`ip route get {destination} from {source}` chose no device: {said}"
        )
    hop = words[words.index("via") + 1] if "via" in words else destination
    return hop, words[words.index("dev") + 1]


def all_routes(machine: Machine) -> dict[str, str]:
    """Return every route and rule as `ip` prints them, byte for byte."""
    return {reading: machine.probe.run(reading.split()).stdout for reading in READINGS}


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """Return the lines that were added (+) and removed (-), as one line of text."""
    diffs = (ndiff(before[name].splitlines(), after[name].splitlines()) for name in READINGS)
    return "; ".join(line for diff in diffs for line in diff if line[0] in "+-")


def source_table(machine: Machine, address: str) -> str:
    """Return the routing table that a rule selects for packets from an address, or ``main`` without one."""
    rules = machine.probe.read("rules4")
    return next((str(rule["table"]) for rule in rules if rule.get("src") == address), "main")
