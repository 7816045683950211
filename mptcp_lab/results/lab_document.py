"""Describe the lab in ``result.json``: everything that reports need to draw it, and no secrets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mptcp_lab.inventory.model import Host, Lab, Nic, Service
from mptcp_lab.paths import ROOT


def lab_document(lab: Lab, facts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return segments and hosts as JSON; ``facts`` maps a host to its kernel, tool versions and so on."""
    return {
        "name": lab.name,
        "flavour": lab.flavour,
        "source": relative_source(lab.source),
        "segments": [
            {"name": s.name, "kind": s.kind, "ipv4": _text(s.ipv4), "ipv6": _text(s.ipv6)}
            for s in lab.segments.values()
        ],
        "hosts": [_host(host, facts.get(host.name, {})) for host in lab.hosts.values()],
    }


def _host(host: Host, facts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": host.name,
        "functions": sorted(host.functions),
        "mptcp": host.mptcp,
        "nics": [_nic(nic) for nic in host.nics],
        "services": [_service(service) for service in host.services],
        "facts": dict(facts),
    }


def _nic(nic: Nic) -> dict[str, Any]:
    return {
        "segment": nic.segment,
        "device": nic.device,
        "ipv4": _text(nic.ipv4),
        "ipv6": _text(nic.ipv6),
        "rate": nic.rate,
        "up": nic.up,
    }


def _service(service: Service) -> dict[str, Any]:
    return {
        "name": service.name,
        "engine": service.engine,
        "port": service.port,
        "mptcp": service.mptcp,
        "backends": [f"{backend.host}:{backend.port}" for backend in service.backends],
    }


def relative_source(source: str) -> str:
    """Return the inventory's path, relative to the project's root if it is below it."""
    path = Path(source)
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def _text(value: object | None) -> str | None:
    return None if value is None else str(value)
