"""Build `Service` and `Backend` objects from an inventory's variables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

from mptcp_lab.inventory import fields
from mptcp_lab.inventory.engines import COMMON_KEYS, ENGINES, PROXIES
from mptcp_lab.inventory.errors import InventoryError
from mptcp_lab.inventory.model import Backend, Host, Segment, Service
from mptcp_lab.inventory.nics import NIC_EXAMPLE
from mptcp_lab.inventory.variables import suggestion

#: Words for `listen`: a socket on each address, or one on all addresses (IPv4, both versions, IPv6).
LISTEN = ("addresses", "wildcard", "dual-stack", "ipv6-only")
LISTEN_EXAMPLE = "listen: dual-stack, or listen: [198.18.1.21]"
SERVICE_EXAMPLE = (
    f"{{name: test1, engine: {next(iter(PROXIES))}, port: 7000, mptcp: preload, "
    "backends: [{host: server2, port: 7000}]}"
)
BACKEND_EXAMPLE = "{host: server2, port: 7000, weight: 1, max_fails: 3, fail_timeout: 10s}"
RELAY_EXAMPLE = "{host: proxy2, service: test1, mptcp: native}"
BACKEND_KEYS = "host port service weight max_fails fail_timeout"


def services_from(host: str, functions: frozenset[str], variables: Mapping[str, Any]) -> tuple[Service, ...]:
    """Return a host's services; refuse engines that its groups exclude, and ports or names used twice."""
    services: list[Service] = []
    listed = fields.entries(host, "lab_services", variables.get("lab_services", []), SERVICE_EXAMPLE)
    for i, entry in enumerate(listed):
        variable = f"lab_services[{i}]"
        service = _service(host, variable, entry)
        _check_group(host, variable, service, functions)
        for other in services:
            if other.port == service.port:
                problem = f"{service.port} is taken by {other.name}"
                raise InventoryError(host, f"{variable}.port", problem, SERVICE_EXAMPLE)
            if other.name == service.name:
                problem = f"{service.name} is listed twice"
                raise InventoryError(host, f"{variable}.name", problem, SERVICE_EXAMPLE)
        services.append(service)
    return tuple(services)


def _check_group(host: str, variable: str, service: Service, functions: frozenset[str]) -> None:
    groups = ENGINES[service.engine].groups
    if not functions & set(groups):
        problem = f"{service.engine} runs on hosts of {' or '.join(groups)}; {host} is not in such a group"
        raise InventoryError(host, f"{variable}.engine", problem, f"{groups[0]}: {{hosts: {{{host}: }}}}")


def _service(host: str, variable: str, entry: Mapping[str, Any]) -> Service:
    engine = fields.choice(host, f"{variable}.engine", entry.get("engine"), tuple(ENGINES))
    keys = " ".join((*COMMON_KEYS, *ENGINES[engine].keys))
    fields.known_keys(host, variable, entry, keys, SERVICE_EXAMPLE)
    name = fields.name(host, f"{variable}.name", entry.get("name"), SERVICE_EXAMPLE)
    port = fields.port(host, f"{variable}.port", entry.get("port"))
    methods = ENGINES[engine].methods
    method = fields.choice(host, f"{variable}.mptcp", entry.get("mptcp", "off"), methods)
    listed = fields.entries(host, f"{variable}.backends", entry.get("backends", []), BACKEND_EXAMPLE)
    backends = tuple(
        _backend(host, f"{variable}.backends[{j}]", engine, method, backend)
        for j, backend in enumerate(listed)
    )
    if engine != "origin" and not backends:
        raise InventoryError(host, variable, f"service {name} has no backend", SERVICE_EXAMPLE)
    if engine == "forwarder" and len(backends) > 1:
        problem = f"forwarder {name} has {len(backends)} backends; it forwards to one"
        raise InventoryError(host, f"{variable}.backends", problem, "[{host: server1, port: 7000}]")
    fields.boolean(host, f"{variable}.snat", entry.get("snat", True))
    listen, listen_on = _listen(host, f"{variable}.listen", entry.get("listen", "addresses"))
    return Service(
        name,
        engine,
        port,
        method,
        host,
        backends,
        hashed=fields.boolean(host, f"{variable}.hash", entry.get("hash", False)),
        proxy_protocol=_proxy_protocol(host, f"{variable}.proxy_protocol", engine, entry),
        listen=listen,
        listen_on=listen_on,
        connect_timeout=fields.duration(
            host, f"{variable}.connect_timeout", entry.get("connect_timeout", "")
        ),
        idle_timeout=fields.duration(host, f"{variable}.idle_timeout", entry.get("idle_timeout", "")),
        accepts_proxy=fields.boolean(host, f"{variable}.accept_proxy", entry.get("accept_proxy", False)),
    )


def _listen(host: str, variable: str, value: Any) -> tuple[str, tuple[str, ...]]:
    """Return the word for where a service listens, and the addresses if the inventory lists them."""
    if not isinstance(value, list):
        return fields.choice(host, variable, value, LISTEN), ()
    if not value:
        raise InventoryError(
            host, variable, "the list is empty: the service would not listen", LISTEN_EXAMPLE
        )
    addresses = []
    for each in value:
        try:
            addresses.append(str(ip_address(str(each))))
        except ValueError:
            problem = f"{each!r} is not an IPv4 or IPv6 address without prefix length"
            raise InventoryError(host, variable, problem, LISTEN_EXAMPLE) from None
    if len(set(addresses)) < len(addresses):
        raise InventoryError(host, variable, "an address is listed twice", LISTEN_EXAMPLE)
    return "addresses", tuple(addresses)


def check_listeners(hosts: Mapping[str, Host]) -> None:
    """Refuse a `listen` with an address that the host has on none of its NICs that are up."""
    for host in hosts.values():
        own = {str(found) for nic in host.nics if nic.up for each in (4, 6) if (found := nic.address(each))}
        for i, service in enumerate(host.services):
            for address in service.listen_on:
                if address not in own:
                    problem = f"{address} is no address of a NIC of {host.name} that is up"
                    raise InventoryError(host.name, f"lab_services[{i}].listen", problem, LISTEN_EXAMPLE)


def _proxy_protocol(host: str, variable: str, engine: str, entry: Mapping[str, Any]) -> int:
    """Return the version of the PROXY header that a proxy sends or an origin expects; 0 for none."""
    if "proxy_protocol" not in entry:
        return 0
    value = entry["proxy_protocol"]
    if engine == "origin":
        return int(fields.boolean(host, variable, value))
    versions = PROXIES[engine].proxy_protocol
    if isinstance(value, bool) or not isinstance(value, int) or value not in versions:
        problem = f"{value!r} is not a version that {engine} supports ({', '.join(map(str, versions))})"
        raise InventoryError(host, variable, problem, "proxy_protocol: 1")
    return value


def _backend(host: str, variable: str, engine: str, listener: str, entry: Mapping[str, Any]) -> Backend:
    """Return a backend of a service whose listener gets MPTCP by the method `listener`.

    The port of a backend that is named by its service is 0 until `with_backend_ports` has found it.
    """
    keys = f"{BACKEND_KEYS} mptcp" if ENGINES[engine].backend_methods else BACKEND_KEYS
    fields.known_keys(host, variable, entry, keys, BACKEND_EXAMPLE)
    if ("port" in entry) == ("service" in entry):
        problem = "a backend has either a port or the name of a service"
        raise InventoryError(host, variable, problem, RELAY_EXAMPLE)
    named = "service" in entry
    return Backend(
        fields.name(host, f"{variable}.host", entry.get("host"), BACKEND_EXAMPLE),
        0 if named else fields.port(host, f"{variable}.port", entry.get("port")),
        fields.whole_number(host, f"{variable}.weight", entry.get("weight", 1), 1, 256),
        fields.whole_number(host, f"{variable}.max_fails", entry.get("max_fails", 3), 0, 1000),
        fields.duration(host, f"{variable}.fail_timeout", entry.get("fail_timeout", "10s")) or "10s",
        fields.name(host, f"{variable}.service", entry["service"], RELAY_EXAMPLE) if named else "",
        _backend_method(host, f"{variable}.mptcp", engine, listener, entry.get("mptcp", "off")),
    )


def _backend_method(host: str, variable: str, engine: str, listener: str, value: Any) -> str:
    """Return the method for connections to a backend; refuse one that engine or process cannot use."""
    allowed = ENGINES[engine].backend_methods
    method = fields.choice(host, variable, value, tuple(dict.fromkeys(["off", *ENGINES[engine].methods])))
    if method == "off":
        return method
    if method not in allowed:
        problem = f"{engine} has no option for MPTCP to backends; only the wrapper (preload) adds it"
        raise InventoryError(host, variable, problem, "mptcp: preload")
    by_wrapper = method == "preload" or (method == "auto" and "native" not in allowed)
    if by_wrapper and listener not in ("preload", "auto"):
        problem = (
            f"the wrapper (preload) turns every socket of {engine} to MPTCP, but the listener has {listener}"
        )
        raise InventoryError(host, variable, problem, "mptcp: preload, at the service too")
    if method == "native" and listener == "preload":
        problem = f"the wrapper (preload) of the listener turns every socket of {engine} to MPTCP already"
        raise InventoryError(host, variable, problem, "mptcp: preload")
    return method


def with_backend_ports(hosts: Mapping[str, Host]) -> dict[str, Host]:
    """Return the hosts with the port of each backend that is named by its service.

    Raises:
        InventoryError: the lab has no such host, or the host no such service.
    """

    def find_ports(host: Host, place: int, service: Service) -> Service:
        backends = tuple(
            replace(backend, port=_port_of(hosts, host, f"lab_services[{place}].backends[{j}]", backend))
            for j, backend in enumerate(service.backends)
        )
        return replace(service, backends=backends)

    return {
        name: replace(host, services=tuple(find_ports(host, i, each) for i, each in enumerate(host.services)))
        for name, host in hosts.items()
    }


def _port_of(hosts: Mapping[str, Host], host: Host, variable: str, backend: Backend) -> int:
    if not backend.service:
        return backend.port
    target = _backend_host(hosts, host, variable, backend)
    names = [service.name for service in target.services]
    if backend.service not in names:
        hint = suggestion(backend.service, names, 0.6)
        listed = ", ".join(names) or "none"
        problem = f"{target.name} has no service {backend.service!r} (it has {listed}){hint}"
        raise InventoryError(host.name, f"{variable}.service", problem, RELAY_EXAMPLE)
    return target.service(backend.service).port


def _backend_host(hosts: Mapping[str, Host], host: Host, variable: str, backend: Backend) -> Host:
    if backend.host not in hosts:
        problem = f"no host {backend.host!r} in the lab"
        raise InventoryError(host.name, f"{variable}.host", problem, "{host: server2, port: 7000}")
    return hosts[backend.host]


def check_backends(hosts: Mapping[str, Host], segments: Mapping[str, Segment]) -> None:
    """Refuse backends that no host offers or that cannot be reached, and backends that lead in a circle."""
    for host in hosts.values():
        for i, service in enumerate(host.services):
            for j, backend in enumerate(service.backends):
                variable = f"lab_services[{i}].backends[{j}]"
                _check_backend(hosts, host, variable, service, backend)
                _check_segments(hosts[backend.host], host, variable, backend, segments)
                _check_loop(hosts, host, variable, service, backend)


def _check_backend(
    hosts: Mapping[str, Host], host: Host, variable: str, service: Service, backend: Backend
) -> None:
    target = _backend_host(hosts, host, variable, backend)
    ports = {offered.port: offered for offered in target.services}
    if backend.port not in ports:
        problem = f"{target.name} offers no port {backend.port} (it offers {[*ports] or 'none'})"
        raise InventoryError(host.name, f"{variable}.port", problem, "{host: server2, port: 7000}")
    offered = ports[backend.port]
    if offered.accepts_proxy and not service.proxy_protocol:
        problem = f"{target.name}'s {offered.name} expects a PROXY header, and {service.name} sends none"
        raise InventoryError(host.name, variable, problem, f"proxy_protocol: 1, at {service.name}")
    if backend.mptcp != "off" and not host.mptcp:
        problem = f"{host.name} has lab_mptcp: off, so it cannot connect with MPTCP"
        raise InventoryError(host.name, f"{variable}.mptcp", problem, 'mptcp: "off"')


def _check_segments(
    target: Host, host: Host, variable: str, backend: Backend, segments: Mapping[str, Segment]
) -> None:
    shared = {nic.segment for nic in host.nics if nic.up} & {nic.segment for nic in target.nics if nic.up}
    if not shared:
        problem = f"{host.name} and {target.name} share no segment on which both have a NIC that is up"
        raise InventoryError(host.name, f"{variable}.host", problem, NIC_EXAMPLE)
    offered = next(each for each in target.services if each.port == backend.port)
    on_core = "core" in ENGINES[offered.engine].listens_on
    if not on_core and not any(segments[name].kind == "path" for name in shared):
        problem = f"{target.name}'s {offered.name} listens on path segments only; {host.name} shares none"
        raise InventoryError(host.name, f"{variable}.host", problem, NIC_EXAMPLE)


def _check_loop(
    hosts: Mapping[str, Host], host: Host, variable: str, service: Service, backend: Backend
) -> None:
    """Refuse a backend from which connections come back to the service itself."""
    waiting, seen = [(backend, f"{host.name}'s {service.name}")], set()
    while waiting:
        each, way = waiting.pop()
        target = hosts.get(each.host)
        found = next((s for s in target.services if s.port == each.port), None) if target else None
        if target is None or found is None or (each.host, each.port) in seen:
            continue
        seen.add((each.host, each.port))
        way = f"{way} > {target.name}'s {found.name}"
        if (each.host, each.port) == (host.name, service.port):
            raise InventoryError(host.name, variable, f"its connections go in a circle: {way}", RELAY_EXAMPLE)
        waiting += [(further, way) for further in found.backends]
