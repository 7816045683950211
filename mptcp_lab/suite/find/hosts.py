"""Find the hosts, NICs and addresses that checks use in the inventory; raise `Unsupported` without them."""

from __future__ import annotations

from mptcp_lab.errors import Unsupported
from mptcp_lab.inventory.model import Host, Lab, Nic, Service
from mptcp_lab.inventory.requirement import find_host


def find_client(lab: Lab) -> Host:
    """Return the first client; raise `Unsupported` if the lab has none."""
    return find_host(lab, "clients")


def find_server(lab: Lab) -> Host:
    """Return the first origin that speaks MPTCP on a path; raise `Unsupported` if the lab has none."""
    return find_host(lab, "origins", lambda host: host.mptcp and lab.path_nics(host), " with MPTCP on a path")


def find_tcp_server(lab: Lab) -> Host:
    """Return the first origin without MPTCP; raise `Unsupported` if the lab has none."""
    return find_host(lab, "origins", lambda host: not host.mptcp, " without MPTCP")


def find_router(lab: Lab) -> Host:
    """Return the first gateway, a plain router; raise `Unsupported` if the lab has none."""
    return find_host(lab, "gateways")


def find_proxy_host(lab: Lab) -> Host:
    """Return the first proxy that speaks MPTCP; raise `Unsupported` if the lab has none."""
    return find_host(lab, "proxies", lambda host: host.mptcp and lab.path_nics(host), " with MPTCP on a path")


def find_other_router(lab: Lab) -> Host:
    """Return the first proxy that runs a forwarder; raise `Unsupported` if the lab has none."""
    return find_host(
        lab, "proxies", lambda host: any(s.engine == "forwarder" for s in host.services), " that forward"
    )


def find_attacker(lab: Lab) -> Host:
    """Return the first attacker on two paths of the client; raise `Unsupported` if the lab has none.

    The checks use it over IPv4.
    """
    wanted = {nic.segment for nic in lab.path_nics(find_client(lab))[:2]}

    def is_on_paths(host: Host) -> bool:
        return wanted <= {nic.segment for nic in lab.path_nics(host) if nic.ipv4}

    return find_host(lab, "attackers", is_on_paths, f" with IPv4 on {' and '.join(sorted(wanted))}")


def find_origin(host: Host) -> Service:
    """Return a host's origin service: one with MPTCP if the host speaks MPTCP, else one without.

    Raises:
        Unsupported: the inventory gives the host no such service.
    """
    wanted = "native" if host.mptcp else "off"
    for service in host.services:
        if service.engine == "origin" and service.mptcp == wanted:
            return service
    raise Unsupported("origin", f"the inventory gives {host.name} no origin service with mptcp: {wanted}")


def find_spare_nic(lab: Lab, host: Host) -> Nic:
    """Return the first NIC on a path segment that the inventory keeps down, or raise `Unsupported`."""
    for nic in host.nics:
        if not nic.up and lab.segments[nic.segment].kind == "path":
            return nic
    raise Unsupported("spare NIC", "the inventory has none that is down on a path segment", host.name)


def find_address_behind(router: Host, client: Host, server: Host) -> str:
    """Return an IPv4 address of the server that the client reaches only through the router.

    Raises:
        Unsupported: no segment of the server is behind the router only.
    """
    for nic in server.nics:
        if nic.up and nic.ipv4 and router.nic_on(nic.segment) and not client.nic_on(nic.segment):
            return str(nic.ipv4.ip)
    raise Unsupported("router", f"no segment of {server.name} is behind {router.name} only")


def find_address_on(host: Host, segment: str) -> str:
    """Return a host's IPv4 address on a segment; raise `Unsupported` if it has none there."""
    nic = host.nic_on(segment)
    if nic is None or nic.ipv4 is None:
        raise Unsupported("router", f"not on {segment}", host.name)
    return str(nic.ipv4.ip)


def require_mesh(lab: Lab, host: Host, flags: set[str]) -> None:
    """Raise `Unsupported` where the endpoints of a host's path NICs lack one of these flags."""
    for nic in lab.path_nics(host):
        if missing := flags - set(nic.endpoint):
            what = (
                f"the inventory gives {nic.device} {' '.join(nic.endpoint)}, without {' and '.join(missing)}"
            )
            raise Unsupported("a full mesh", what, host.name)


def shared_paths(first: Host, second: Host, lab: Lab) -> list[tuple[Nic, Nic]]:
    """Return the NICs of both hosts on each path segment that they share, in the order of the second's."""
    mine = {nic.segment: nic for nic in lab.path_nics(first)}
    return [(mine[nic.segment], nic) for nic in lab.path_nics(second) if nic.segment in mine]


def find_balanced(lab: Lab, client: Host, router: Host) -> tuple[tuple[Host, str, str], ...]:
    """Return two hosts with MPTCP behind the router: each one's address there, and one on a client's path.

    The client reaches the first address through the router only, and the second one without it.

    Raises:
        Unsupported: the inventory has no two such hosts.
    """
    found = []
    for host in (*lab.hosts_with("origins"), *lab.hosts_with("proxies")):
        own = [nic for path in lab.path_nics(client)[1:] if (nic := host.nic_on(path.segment)) and nic.ipv4]
        try:
            if host.mptcp and own:
                found.append((host, find_address_behind(router, client, host), str(own[0].address())))
        except Unsupported:
            continue
    if len(found) < 2:
        raise Unsupported("two servers with MPTCP behind a gateway", f"the inventory has {len(found)}")
    return tuple(found[:2])
