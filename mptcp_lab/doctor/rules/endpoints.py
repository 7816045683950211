"""The endpoints of a host do not make the subflows that its addresses allow (`ip mptcp endpoint`)."""

from __future__ import annotations

from collections.abc import Iterable

from mptcp_lab.doctor.finding import Finding, Rule
from mptcp_lab.doctor.host_reading import HostReading
from mptcp_lab.doctor.network_reading import HostAddress
from mptcp_lab.doctor.readings import Leg, PairReading
from mptcp_lab.doctor.rules._common import (
    accepts_mptcp,
    announced_endpoints,
    count_joined,
    describe_flags,
    endpoints,
    ends,
    joining_endpoints,
    joins_onward,
    legs_with_server,
    set_endpoint,
    share_subnet,
    usable_addresses,
    warn_of_endpoint,
)
from mptcp_lab.doctor.unreadable import Unreadable, read_or

JOINING_ONLY = frozenset({"subflow", "fullmesh"})


def find_no_endpoint(reading: PairReading) -> Iterable[Finding]:
    """Find a client with several addresses that has no endpoint to join from."""
    for leg in reading.legs:
        spare = _spare_addresses(leg)
        if isinstance(leg.client.endpoints, Unreadable) or joining_endpoints(leg.client):
            continue
        if endpoints(leg.client) or not spare or count_joined(leg):
            continue
        yield warn_of_endpoint(
            "no-endpoint-at-client",
            leg.client,
            f"{leg.client.name} has no MPTCP endpoint, so its second address is not used.",
            "Without endpoints the kernel opens the first subflow only.",
            " && ".join(_add(each) for each in spare),
            f"ip mptcp endpoint: {len(read_or(leg.client.endpoints, ()))} endpoints",
            f"unused: {', '.join(each.address for each in spare)}",
        )


def _add(address: HostAddress) -> str:
    return f"ip mptcp endpoint add {address.address} dev {address.device} subflow"


def _spare_addresses(leg: Leg) -> tuple[HostAddress, ...]:
    """Return addresses of the client's other devices from which the server could be joined."""
    first = leg.connection.client_address if leg.connection is not None else ""
    held = [each for each in usable_addresses(leg.client) if each.address != first]
    device = leg.client.device_of(first)
    family = 6 if ":" in first else 4
    return tuple(each for each in held if each.device != device and (each.family == family or not first))


def find_address_without_endpoint(reading: PairReading) -> Iterable[Finding]:
    """Find addresses of a client near the server that lack the endpoint which others have."""
    for leg, server in legs_with_server(reading):
        if not joining_endpoints(leg.client):
            continue
        for held in _spare_addresses(leg):
            is_near = any(share_subnet(held, each.address) for each in usable_addresses(server))
            is_shared = bool(server.device_of(held.address))
            is_other = held.family not in {6 if ":" in e.address else 4 for e in endpoints(leg.client)}
            if (
                held.address in {e.address for e in endpoints(leg.client)}
                or not is_near
                or is_shared
                or is_other
            ):
                continue
            yield warn_of_endpoint(
                "address-without-endpoint",
                leg.client,
                f"{leg.client.name} has no endpoint for {held.address} on {held.device}, its "
                "other paths have one.",
                "The path is not used. An endpoint that is deleted does not come back by itself.",
                _add(held).replace(" subflow", _like(leg.client)),
                f"ip mptcp endpoint: {', '.join(each.address for each in endpoints(leg.client))}",
            )


def _like(host: HostReading) -> str:
    """Return, as text to append, the flags that the host's joining endpoints have."""
    return " " + " ".join(sorted(joining_endpoints(host)[0].flags - {"implicit", "backup"}))


def find_no_flags(reading: PairReading) -> Iterable[Finding]:
    """Find endpoints without a flag that makes them join or be announced."""
    for _, host, is_client in ends(reading):
        for each in endpoints(host):
            if not each.flags & {"subflow", "signal", "fullmesh", "laminar"}:
                flag = "subflow" if is_client else "signal"
                yield warn_of_endpoint(
                    "endpoint-without-flags",
                    host,
                    f"The endpoint {each.address} of {host.name} has neither subflow nor signal.",
                    "The kernel neither joins from it nor announces it.",
                    set_endpoint(each, each.flags | {flag}),
                    describe_flags(each),
                )


def find_fullmesh_alone(reading: PairReading) -> Iterable[Finding]:
    """Find fullmesh endpoints of a client without the flag subflow."""
    for leg in reading.legs:
        for each in endpoints(leg.client):
            if "fullmesh" in each.flags and not each.flags & {"subflow", "signal"}:
                yield warn_of_endpoint(
                    "fullmesh-without-subflow",
                    leg.client,
                    f"The endpoint {each.address} of {leg.client.name} has fullmesh without subflow.",
                    "The kernel joins from it only what is announced, never the server's first address.",
                    set_endpoint(each, each.flags | {"subflow"}),
                    describe_flags(each),
                )


def find_client_only_announces(reading: PairReading) -> Iterable[Finding]:
    """Find a client whose endpoints are only announced.

    A host that also accepts MPTCP, such as a proxy that connects to another one, announces for its own
    clients. Only a connection without joins shows that this is not enough for it.
    """
    for leg in reading.legs:
        announced = announced_endpoints(leg.client)
        if not announced or joining_endpoints(leg.client) or count_joined(leg):
            continue
        if leg.connection is None and accepts_mptcp(leg.client):
            continue
        yield warn_of_endpoint(
            "client-only-announces",
            leg.client,
            f"{leg.client.name} announces its addresses instead of joining from them.",
            "A server does not join a client: the client needs endpoints with the flag subflow.",
            " && ".join(set_endpoint(each, (each.flags - {"signal"}) | {"subflow"}) for each in announced),
            *map(describe_flags, announced),
        )


def find_server_announces_nothing(reading: PairReading) -> Iterable[Finding]:
    """Find a server whose endpoints have subflow only."""
    for _, server in legs_with_server(reading):
        kept = [e for e in endpoints(server) if e.flags & JOINING_ONLY and "signal" not in e.flags]
        if not kept or announced_endpoints(server) or joins_onward(reading, server):
            continue
        yield warn_of_endpoint(
            "server-announces-nothing",
            server,
            f"{server.name} announces none of its addresses: its endpoints have no signal.",
            "A server's flag subflow does nothing for connections that it accepts.",
            " && ".join(set_endpoint(each, {"signal"}) for each in kept),
            *map(describe_flags, kept),
        )


def find_implicit(reading: PairReading) -> Iterable[Finding]:
    """Find clients that joined an announced address from an address without an endpoint."""
    for leg in reading.legs:
        implicit = [e for e in read_or(leg.client.endpoints, ()) if "implicit" in e.flags]
        if implicit and joining_endpoints(leg.client):
            yield warn_of_endpoint(
                "implicit-endpoint",
                leg.client,
                f"{leg.client.name} has an endpoint that the kernel made by itself.",
                "It takes one of eight places, joins nothing, and hides that the address has no real one.",
                " && ".join(set_endpoint(each, {"subflow"}) for each in implicit),
                *map(describe_flags, implicit),
                follows=("address-without-endpoint", "no-endpoint-at-client"),
            )


RULES = (
    Rule(
        "no-endpoint-at-client",
        "the client has several addresses and no endpoint",
        find_no_endpoint,
        "`ip mptcp endpoint add ADDRESS dev DEVICE subflow` for each further address",
    ),
    Rule(
        "address-without-endpoint",
        "one of the client's addresses lost its endpoint, or never had one",
        find_address_without_endpoint,
        "add the endpoint again; subflows that closed do not come back before that",
    ),
    Rule(
        "endpoint-without-flags",
        "an endpoint has neither `subflow` nor `signal`",
        find_no_flags,
        "delete it, and add it with `subflow` (client) or `signal` (server)",
    ),
    Rule(
        "fullmesh-without-subflow",
        "an endpoint of the client has `fullmesh` alone",
        find_fullmesh_alone,
        "delete it, and add it with `subflow fullmesh`",
    ),
    Rule(
        "client-only-announces",
        "the client's endpoints have `signal`, and none has `subflow`",
        find_client_only_announces,
        "delete them, and add them with `subflow`",
    ),
    Rule(
        "server-announces-nothing",
        "the server's endpoints have `subflow`, and none has `signal`",
        find_server_announces_nothing,
        "delete them, and add them with `signal`",
    ),
    Rule(
        "implicit-endpoint",
        "an endpoint has the flag `implicit`: it was made by a join to an announced address",
        find_implicit,
        "delete it, and add the endpoint with `subflow`",
    ),
)
