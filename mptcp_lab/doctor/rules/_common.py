"""Helpers of several groups of rules: selections from readings, exact commands, names of rules. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_address, ip_interface

from mptcp_lab.doctor.connection_reading import ESTABLISHED, CaptureSummary, ConnectionReading, Pair
from mptcp_lab.doctor.finding import Finding, Severity
from mptcp_lab.doctor.host_reading import HostReading
from mptcp_lab.doctor.network_reading import HostAddress
from mptcp_lab.doctor.readings import Leg, PairReading
from mptcp_lab.doctor.unreadable import Unreadable, read_or
from mptcp_lab.probe.facts import Endpoint

SYSCTL_FILE = "/etc/sysctl.d/90-mptcp.conf"
#: The flags with which an endpoint makes a client join by itself.
JOINING = frozenset({"subflow", "fullmesh", "laminar"})
#: The most additional subflows of a connection that Linux holds (net/mptcp/protocol.h).
MOST_SUBFLOWS = 8
#: The text with which `expect.py` begins to say why a pair is not expected that only a limit forbids.
OVER_LIMIT = "the limit of"


def set_sysctl(name: str, value: str | int) -> str:
    """Return the command that sets a sysctl now."""
    return f"sysctl -w {name}={value}"


def keep_sysctl(name: str, value: str | int) -> str:
    """Return the command that sets a sysctl at each boot."""
    return f"echo {name}={value} >> {SYSCTL_FILE}"


def keep_command(name: str, command: str, kind: str = "oneshot") -> str:
    """Return the command that makes systemd run a command at each boot; ``kind`` is the unit's type.

    Each part of the command runs: after a boot there is no endpoint to delete before one is added.
    """
    command = command.replace(" && ", "; ")
    lines = (
        *("[Unit]", "Wants=network-online.target", "After=network-online.target", "[Service]"),
        *(f"Type={kind}", f'ExecStart=/bin/sh -c "{command}"', "[Install]", "WantedBy=multi-user.target"),
    )
    text = " ".join(f"'{line}'" for line in lines)
    return f"printf '%s\\n' {text} > /etc/systemd/system/{name}.service && systemctl enable {name}.service"


def keep_enabled(unit: str) -> str:
    """Return the command that makes systemd start a service at each boot, with what its files say."""
    return f"systemctl enable {unit}"


def endpoints(host: HostReading) -> tuple[Endpoint, ...]:
    """Return a host's endpoints but for implicit ones, which the kernel makes by itself."""
    return tuple(each for each in read_or(host.endpoints, ()) if "implicit" not in each.flags)


def joining_endpoints(host: HostReading) -> tuple[Endpoint, ...]:
    """Return the endpoints from whose addresses a host joins by itself."""
    return tuple(each for each in endpoints(host) if each.flags & JOINING)


def announced_endpoints(host: HostReading) -> tuple[Endpoint, ...]:
    """Return the endpoints that a host announces."""
    return tuple(each for each in endpoints(host) if "signal" in each.flags)


def is_usable(host: HostReading, address: HostAddress) -> bool:
    """Return whether an address can be the end of a path: global, in use, on a device that is up."""
    link = host.link(address.device)
    if address.address == host.management_address:
        return False
    if address.scope != "global" or address.flags & {"tentative", "dadfailed", "deprecated", "temporary"}:
        return False
    return link is not None and link.is_up and link.has_carrier and not is_virtual(address.device)


def is_virtual(device: str) -> bool:
    """Return whether a device only reaches programs of this host: loopback, container and VM bridges."""
    return device == "lo" or device.startswith(("docker", "br-", "veth", "virbr", "cni", "podman", "lxcbr"))


def usable_addresses(host: HostReading) -> tuple[HostAddress, ...]:
    """Return the addresses of a host that can be the end of a path."""
    return tuple(each for each in read_or(host.addresses, ()) if is_usable(host, each))


def has_address(host: HostReading, address: str) -> bool:
    """Return whether a device of a host has an address; true where addresses could not be read."""
    return isinstance(host.addresses, Unreadable) or bool(host.device_of(address))


def share_subnet(held: HostAddress, other: str) -> bool:
    """Return whether an address is in the subnet of another that a device has."""
    if held.family != family_of(other):
        return False
    return ip_address(other) in ip_interface(f"{held.address}/{held.prefix}").network


def family_of(address: str) -> int:
    """Return 4 or 6."""
    return 6 if ":" in address else 4


def missing_pairs(leg: Leg) -> tuple[Pair, ...]:
    """Return the pairs that lack their subflow at either end, but for the first one."""
    if leg.connection is None:
        return ()
    missing = tuple(each for each in leg.connection.missing_pairs() if not each.is_first)
    return (*missing, *unconfirmed_pairs(leg))


def unconfirmed_pairs(leg: Leg) -> tuple[Pair, ...]:
    """Return the pairs that the client has established, and of which the server never took the third packet.

    The server's counter shows it, to which other connections can only add; its capture shows which they are.
    """
    connection, server = leg.connection, leg.server
    if connection is None or server is None or "MPJoinAckRx" not in server.counters.get("MPTcpExt", {}):
        return ()
    if connection.server_counter("MPJoinAckRx") >= count_joined(leg):
        return ()
    _, capture = captures(connection)
    joins = capture.joins if capture is not None else ()
    silent = {(each.client, each.server) for each in joins if not each.fourth}
    joined = [each for each in connection.pairs if each.state == ESTABLISHED and not each.is_first]
    return tuple(each for each in joined if each.is_expected and (each.client, each.server) in silent)


def is_complete(leg: Leg) -> bool:
    """Return whether the doctor's connection was MPTCP and had every subflow that is expected."""
    connection = leg.connection
    if connection is None or connection.is_mptcp is not True:
        return False
    return not connection.missing_pairs() and not unconfirmed_pairs(leg)


def has_tcp_only(leg: Leg) -> bool:
    """Return whether the doctor's connection was made, and is not MPTCP."""
    return leg.connection is not None and leg.connection.is_connected and leg.connection.is_mptcp is False


def count_wanted(leg: Leg) -> int:
    """Return how many subflows the endpoints ask for beside the first one, whatever the limits are."""
    if leg.connection is not None and leg.connection.pairs:
        further = [each for each in leg.connection.pairs if not each.is_first]
        return sum(each.is_expected or each.why.startswith(OVER_LIMIT) for each in further)
    first = leg.connection.client_address if leg.connection else ""
    return len([each for each in joining_endpoints(leg.client) if each.address != first]) - (not first)


def count_joined(leg: Leg) -> int:
    """Return how many subflows the connection has beside its first one."""
    pairs = leg.connection.pairs if leg.connection is not None else ()
    return sum(each.state == ESTABLISHED and not each.is_first for each in pairs)


def accepts_mptcp(host: HostReading) -> bool:
    """Return whether a host has a listener with MPTCP among those that were read."""
    return any(each.protocol == "mptcp" for each in read_or(host.listeners, ()))


def captures(connection: ConnectionReading) -> tuple[CaptureSummary | None, CaptureSummary | None]:
    """Return the captures of client and server; None for one that was not made."""
    found = (connection.client_capture, connection.server_capture)
    client, server = (None if isinstance(each, Unreadable) else each for each in found)
    return client, server


def legs_with_server(reading: PairReading) -> Iterator[tuple[Leg, HostReading]]:
    """Yield the legs whose server was read, with that server."""
    for leg in reading.legs:
        if leg.server is not None:
            yield leg, leg.server


def ends(reading: PairReading) -> Iterator[tuple[Leg, HostReading, bool]]:
    """Yield each leg with each of its hosts, and whether that host is the leg's client."""
    for leg in reading.legs:
        yield leg, leg.client, True
        if leg.server is not None:
            yield leg, leg.server, False


def over_limit(leg: Leg) -> tuple[Pair, ...]:
    """Return the pairs for which only a limit leaves no room."""
    pairs = leg.connection.pairs if leg.connection is not None else ()
    return tuple(each for each in pairs if each.why.startswith(OVER_LIMIT))


def joins_onward(reading: PairReading, host: HostReading) -> bool:
    """Return whether a host is a proxy, whose endpoints join the server."""
    return reading.proxy is not None and host.name == reading.proxy.name


def describe_pairs(pairs: Iterable[Pair]) -> str:
    """Return pairs as a text: "A > B, C > D"."""
    return ", ".join(f"{each.client} > {each.server}" for each in pairs)


def describe_flags(endpoint: Endpoint) -> str:
    """Return an endpoint as `ip mptcp endpoint` prints it."""
    device = f" dev {endpoint.device}" if endpoint.device else ""
    port = f" port {endpoint.port}" if endpoint.port else ""
    return " ".join((endpoint.address + port, f"id {endpoint.id}", *sorted(endpoint.flags))) + device


def set_endpoint(endpoint: Endpoint, flags: Iterable[str], device: str = "") -> str:
    """Return the command that replaces an endpoint by one with other flags or another device."""
    return f"ip mptcp endpoint delete id {endpoint.id} && {add_endpoint(endpoint, flags, device)}"


def add_endpoint(endpoint: Endpoint, flags: Iterable[str], device: str = "") -> str:
    """Return the command that adds an endpoint for its address, with other flags or another device."""
    on = f" dev {device or endpoint.device}" if device or endpoint.device else ""
    port = f" port {endpoint.port}" if endpoint.port and "signal" in flags else ""
    return f"ip mptcp endpoint add {endpoint.address}{port}{on} {' '.join(sorted(flags))}".rstrip()


def warn_of_endpoint(
    rule: str, host: HostReading, what: str, why: str, fix: str, *evidence: str, follows: tuple[str, ...] = ()
) -> Finding:
    """Return a warning about an endpoint, whose fix is kept by running it at each boot."""
    return Finding(
        rule=rule,
        severity=Severity.WARNING,
        host=host.name,
        what=what,
        why=why,
        fix=fix,
        persistent=keep_command(f"mptcp-endpoint-{_address_in(fix)}", fix) if "endpoint add" in fix else "",
        evidence=evidence,
        follows_from=follows,
    )


def announce_with_port(addresses: Iterable[str], port: int) -> str:
    """Return the command that announces addresses with a port, for which the kernel opens listeners."""
    return " && ".join(f"ip mptcp endpoint add {each} port {port} signal" for each in addresses)


def keep_announced(addresses: Iterable[str], port: int) -> str:
    """Return the command that announces addresses with a port at each boot."""
    return keep_command(f"mptcp-port-{port}", announce_with_port(addresses, port))


def _address_in(command: str) -> str:
    """Return the address for which a command adds an endpoint."""
    return command.split("endpoint add ", 1)[1].split()[0]
