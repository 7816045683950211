"""Build `Service` and `Backend` objects from an inventory's variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mptcp_lab.inventory import fields
from mptcp_lab.inventory.engines import COMMON_KEYS, ENGINES, PROXIES
from mptcp_lab.inventory.errors import InventoryError
from mptcp_lab.inventory.model import Backend, Host, Service
from mptcp_lab.inventory.nics import NIC_EXAMPLE

SERVICE_EXAMPLE = (
    f"{{name: test1, engine: {next(iter(PROXIES))}, port: 7000, mptcp: preload, "
    "backends: [{host: server2, port: 7000}]}"
)
BACKEND_EXAMPLE = "{host: server2, port: 7000, weight: 1, max_fails: 3, fail_timeout: 10s}"


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
    backends = tuple(_backend(host, f"{variable}.backends[{j}]", backend) for j, backend in enumerate(listed))
    if engine != "origin" and not backends:
        raise InventoryError(host, variable, f"service {name} has no backend", SERVICE_EXAMPLE)
    if engine == "forwarder" and len(backends) > 1:
        problem = f"forwarder {name} has {len(backends)} backends; it forwards to one"
        raise InventoryError(host, f"{variable}.backends", problem, "[{host: server1, port: 7000}]")
    fields.boolean(host, f"{variable}.snat", entry.get("snat", True))
    return Service(
        name,
        engine,
        port,
        method,
        host,
        backends,
        hashed=fields.boolean(host, f"{variable}.hash", entry.get("hash", False)),
        proxy_protocol=_proxy_protocol(host, f"{variable}.proxy_protocol", engine, entry),
        connect_timeout=fields.duration(
            host, f"{variable}.connect_timeout", entry.get("connect_timeout", "")
        ),
        idle_timeout=fields.duration(host, f"{variable}.idle_timeout", entry.get("idle_timeout", "")),
    )


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


def _backend(host: str, variable: str, entry: Mapping[str, Any]) -> Backend:
    fields.known_keys(host, variable, entry, "host port weight max_fails fail_timeout", BACKEND_EXAMPLE)
    return Backend(
        fields.name(host, f"{variable}.host", entry.get("host"), BACKEND_EXAMPLE),
        fields.port(host, f"{variable}.port", entry.get("port")),
        fields.whole_number(host, f"{variable}.weight", entry.get("weight", 1), 1, 256),
        fields.whole_number(host, f"{variable}.max_fails", entry.get("max_fails", 3), 0, 1000),
        fields.duration(host, f"{variable}.fail_timeout", entry.get("fail_timeout", "10s")) or "10s",
    )


def check_backends(hosts: Mapping[str, Host]) -> None:
    """Refuse a backend that no host offers, or whose host shares no segment with the proxy."""
    for host in hosts.values():
        for i, service in enumerate(host.services):
            for j, backend in enumerate(service.backends):
                _check_backend(hosts, host, f"lab_services[{i}].backends[{j}]", backend)


def _check_backend(hosts: Mapping[str, Host], host: Host, variable: str, backend: Backend) -> None:
    target = hosts.get(backend.host)
    example = "{host: server2, port: 7000}"
    if target is None:
        raise InventoryError(host.name, f"{variable}.host", f"no host {backend.host!r} in the lab", example)
    ports = [service.port for service in target.services]
    if backend.port not in ports:
        problem = f"{target.name} offers no port {backend.port} (it offers {ports or 'none'})"
        raise InventoryError(host.name, f"{variable}.port", problem, example)
    if not {nic.segment for nic in host.nics if nic.up} & {nic.segment for nic in target.nics if nic.up}:
        problem = f"{host.name} and {target.name} share no segment on which both have a NIC that is up"
        raise InventoryError(host.name, f"{variable}.host", problem, NIC_EXAMPLE)
