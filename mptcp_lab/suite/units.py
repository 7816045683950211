"""Which systemd units and listeners a host has, by its services."""

from __future__ import annotations

from mptcp_lab.inventory.model import Host
from mptcp_lab.probe import Probe

NETWORK = ("mptcp-lab-network", "mptcp-lab-mptcp")
ENGINE_UNITS = {"haproxy": "haproxy", "nginx": "nginx", "forwarder": "mptcp-lab-forward"}


def units(host: Host) -> list[str]:
    """Return the units that make a host what it is in the lab."""
    names = [*NETWORK]
    for service in host.services:
        unit = ENGINE_UNITS.get(service.engine) or f"mptcp-lab-origin@{service.name}"
        if unit not in names:
            names.append(unit)
    return names


def listeners(probe: Probe) -> tuple[set[tuple[str, int]], set[tuple[str, int]]]:
    """Return the MPTCP listeners, and all TCP listeners (MPTCP ones too), each as (address, port).

    From socket diagnostics: a listening socket is of one protocol or the other, it cannot have fallen back.
    """
    return _listening(probe, "-M"), _listening(probe, "-t")


def _listening(probe: Probe, kind: str) -> set[tuple[str, int]]:
    found = set()
    for line in probe.run(["ss", "-Hln", kind]).stdout.splitlines():
        address, _, port = line.split()[3].rpartition(":")
        found.add((address, int(port)))
    return found
