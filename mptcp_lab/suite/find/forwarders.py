"""Find the forwarders between client and server that checks use in the inventory."""

from __future__ import annotations

from dataclasses import dataclass

from mptcp_lab.errors import Unsupported
from mptcp_lab.inventory.model import Host, Lab, Nic, Service


@dataclass(frozen=True)
class Forwarders:
    """Two forwarders between client and server.

    ``service`` is the service of the first one. ``ways`` has, for each forwarder, the client's NIC, the
    forwarder's host, and the host's NIC on the same segment.
    """

    service: Service
    ways: tuple[tuple[Nic, Host, Nic], tuple[Nic, Host, Nic]]


def find_forwarders(
    lab: Lab, client: Host, server: Host, *, snat: bool = True, one_nic: bool = False
) -> Forwarders:
    """Return two forwarders to the server on two of A's paths, with or without source NAT (`snat`).

    With `one_nic`, the client reaches both from its first NIC.

    Raises:
        Unsupported: the inventory does not list two such forwarders.
    """
    found = [each for each in lab.services("forwarder") if _leads_to(lab, each, server, snat)]
    port = found[0].port if found else 0
    hosts = [lab.hosts[service.host] for service in found if service.port == port]
    paths = lab.path_nics(client)
    nics = paths[:1] * 2 if one_nic else paths
    ways = [
        (nic, host, outside)
        for nic, host in zip(nics, hosts, strict=False)
        if (outside := host.nic_on(nic.segment))
    ]
    if len(ways) < 2:
        kind = "with" if snat else "without"
        raise Unsupported(f"two forwarders {kind} source NAT", "the inventory lists none on two of A's ways")
    return Forwarders(found[0], (ways[0], ways[1]))


def _leads_to(lab: Lab, service: Service, server: Host, snat: bool) -> bool:
    """Return whether a forwarder's backend is on the server, and its source NAT setting equals `snat`."""
    entries = lab.hosts[service.host].variables["lab_services"]
    entry = next(entry for entry in entries if entry["name"] == service.name)
    return service.backends[0].host == server.name and bool(entry.get("snat", True)) == snat
