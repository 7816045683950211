"""Routes that a host's kernel chose, and the commands that give an address a table of its own. Pure."""

from __future__ import annotations

from mptcp_lab.doctor.host_reading import HostReading
from mptcp_lab.doctor.network_reading import Lookup
from mptcp_lab.doctor.rules._common import family_of
from mptcp_lab.doctor.unreadable import read_or

#: Tables that are made for an address have this number and more, so that they meet no others.
FIRST_TABLE = 9100


def find_way(host: HostReading, source: str, destination: str) -> Lookup | None:
    """Return the route of a join from an address: by its endpoint's device, if that has one."""
    endpoint = host.endpoint(source)
    device = endpoint.device if endpoint is not None else ""
    return host.lookup(source, destination, device) or host.lookup(source, destination)


def describe_lookup(lookup: Lookup) -> str:
    """Return the arguments of `ip route get` that a lookup answers."""
    device = f" oif {lookup.asked_device}" if lookup.asked_device else ""
    return f"{lookup.destination} from {lookup.source}{device}"


def gateways_of(host: HostReading, device: str, family: int) -> list[str]:
    """Return the gateways that any table has on a device."""
    routes = [each for each in read_or(host.routes, ()) if each.device == device and each.family == family]
    return list(dict.fromkeys(each.gateway for each in routes if each.gateway))


def has_rule(host: HostReading, source: str) -> bool:
    """Return whether a routing rule leads packets from an address to a table."""
    return any(each.source.split("/")[0] == source and each.table for each in read_or(host.rules, ()))


def give_table(host: HostReading, source: str, device: str) -> str:
    """Return the commands that lead packets from an address to its device's gateway.

    A table that has the gateway is used; otherwise one is made.
    """
    family = family_of(source)
    ip = "ip -6" if family == 6 else "ip"
    for each in read_or(host.routes, ()):
        if each.device == device and each.gateway and each.family == family and each.table != "main":
            return f"{ip} rule add from {source} lookup {each.table}"
    gateway = next(iter(gateways_of(host, device, family)), "GATEWAY")
    names = [each.name for each in read_or(host.links, ())]
    table = FIRST_TABLE + (names.index(device) if device in names else 0)
    return (
        f"{ip} route replace default via {gateway} dev {device} table {table}"
        f" && {ip} rule add from {source} lookup {table}"
    )
