"""Derive from an inventory which pairs of hosts should speak MPTCP, and how OpenSSH reaches them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mptcp_lab.doctor.collect import Question
from mptcp_lab.errors import LabError
from mptcp_lab.inventory.model import Backend, Host, Lab, Service
from mptcp_lab.inventory.ssh import ssh_arguments
from mptcp_lab.probe.openssh import Ssh

#: Engines that forward packets: they have no sockets that could speak MPTCP.
PACKET_ENGINES = frozenset({"forwarder"})


def questions_of(lab: Lab) -> list[Question]:
    """Return the pairs that should speak MPTCP.

    They are each client with one MPTCP service of each other host, and each proxy with each host that has a
    service to which it connects by MPTCP.
    """
    found = [*_front(lab), *_back(lab)]
    if not found:
        raise LabError(
            "no two hosts of it should speak MPTCP", lab.source, "give a server or proxy a service with mptcp"
        )
    return list(dict.fromkeys(found))


def _front(lab: Lab) -> Iterator[Question]:
    for client in lab.hosts_with("clients"):
        for host in lab.hosts.values():
            service = _mptcp_service(host)
            if service is not None and host.name != client.name:
                yield Question(client.name, host.name, service.port)


def _back(lab: Lab) -> Iterator[Question]:
    """Yield one question for each proxy and host that it connects to by MPTCP and that listens with it."""
    seen: set[tuple[str, str]] = set()
    for host in lab.hosts.values():
        for service in host.services:
            for backend in service.backends:
                pair = (host.name, backend.host)
                is_proxy = service.engine not in PACKET_ENGINES and backend.mptcp != "off"
                if is_proxy and pair not in seen and _speaks(lab, backend):
                    seen.add(pair)
                    yield Question(*pair, backend.port)


def _speaks(lab: Lab, backend: Backend) -> bool:
    """Return whether the service that a backend leads to has an MPTCP listener."""
    host = lab.hosts.get(backend.host)
    services = host.services if host is not None and host.mptcp else ()
    return any(each.port == backend.port and each.mptcp != "off" for each in services)


def _mptcp_service(host: Host) -> Service | None:
    """Return the first service of a host whose listener speaks MPTCP, or None."""
    speaking = (each for each in host.services if each.mptcp != "off" and each.engine not in PACKET_ENGINES)
    return next(speaking, None) if host.mptcp else None


def ssh_of(lab: Lab, state: Path) -> Ssh:
    """Return how OpenSSH is called: with the lab's own configuration, or as the inventory's variables say.

    ``state`` is the folder of labs that are up on this machine.
    """
    if lab.local:
        config = state / lab.name / "ssh_config"
        if not config.exists():
            raise LabError("the lab is not up", lab.name, "./lab up, then ansible-playbook lab.yml")
        return Ssh(options=("-F", str(config)))
    return Ssh(hosts={name: tuple(ssh_arguments(host)) for name, host in lab.hosts.items()})
