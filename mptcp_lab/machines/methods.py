"""Find the method by which proxies use MPTCP where the inventory leaves the choice to playbooks (`auto`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mptcp_lab.inventory.engines import PROXIES
from mptcp_lab.inventory.model import Host, Lab, Service
from mptcp_lab.probe import Probe

WRAPPER = "libmptcpwrap"


def with_methods(lab: Lab, probes: Mapping[str, Probe]) -> Lab:
    """Return the lab with each `auto` replaced by the method in use; hosts without `auto` are not queried."""
    return replace(lab, hosts={name: _host(host, probes[name]) for name, host in lab.hosts.items()})


def _host(host: Host, probe: Probe) -> Host:
    engines = {service.engine for service in host.services if "auto" in _inventory_methods(service)}
    methods = {engine: _method(engine, probe) for engine in engines}
    return replace(host, services=tuple(_service(service, methods) for service in host.services))


def _inventory_methods(service: Service) -> set[str]:
    """Return the methods that the inventory gives a listener and its connections to backends."""
    return {service.mptcp, *(backend.mptcp for backend in service.backends)}


def _service(service: Service, methods: Mapping[str, str]) -> Service:
    """Return a service with the method in use instead of `auto`."""

    def method_in_use(method: str) -> str:
        return methods[service.engine] if method == "auto" else method

    backends = tuple(replace(backend, mptcp=method_in_use(backend.mptcp)) for backend in service.backends)
    return replace(service, mptcp=method_in_use(service.mptcp), backends=backends)


def _method(engine: str, probe: Probe) -> str:
    """Return `preload` if the engine's systemd unit loads the wrapper library, else `native`."""
    unit = PROXIES[engine].unit
    shown = probe.run(["systemctl", "show", "--property=Environment", "--value", unit], timeout=20.0)
    return "preload" if WRAPPER in shown.stdout else "native"
