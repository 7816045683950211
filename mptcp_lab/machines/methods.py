"""Find the method by which proxies use MPTCP where the inventory leaves the choice to playbooks (`auto`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mptcp_lab.inventory.engines import PROXIES
from mptcp_lab.inventory.model import Host, Lab
from mptcp_lab.probe import Probe

WRAPPER = "libmptcpwrap"


def with_methods(lab: Lab, probes: Mapping[str, Probe]) -> Lab:
    """Return the lab with each `auto` replaced by the method in use; hosts without `auto` are not queried."""
    return replace(lab, hosts={name: _host(host, probes[name]) for name, host in lab.hosts.items()})


def _host(host: Host, probe: Probe) -> Host:
    engines = {service.engine for service in host.services if service.mptcp == "auto"}
    methods = {engine: _method(engine, probe) for engine in engines}
    services = tuple(
        replace(service, mptcp=methods[service.engine]) if service.mptcp == "auto" else service
        for service in host.services
    )
    return replace(host, services=services)


def _method(engine: str, probe: Probe) -> str:
    """Return `preload` if the engine's systemd unit loads the wrapper library, else `native`."""
    unit = PROXIES[engine].unit
    shown = probe.run(["systemctl", "show", "--property=Environment", "--value", unit], timeout=20.0)
    return "preload" if WRAPPER in shown.stdout else "native"
