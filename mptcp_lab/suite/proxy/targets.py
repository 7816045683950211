"""The proxies' listeners of a lab, by engine and way of enabling MPTCP."""

from __future__ import annotations

from collections.abc import Callable

from mptcp_lab.errors import Unsupported
from mptcp_lab.inventory.model import Service
from mptcp_lab.machines.session import Session
from mptcp_lab.suite.traffic import Target

ENGINES = ("haproxy", "nginx")
METHODS = ("native", "preload")
PROXY_TARGETS = tuple(f"{engine}-{method}" for engine in ENGINES for method in METHODS)


def proxy_target(
    machines: Session, name: str, suits: Callable[[Service], object] = lambda _: True, what: str = ""
) -> Target:
    """Return the listener of a name such as ``haproxy-native``, before one backend that speaks only TCP.

    `suits` tells which of them, and `what` says it in words. Raises `Unsupported` where the lab has none.
    """
    engine, method = name.split("-")
    for service in machines.lab.services(engine):
        if service.mptcp == method and len(service.backends) == 1 and suits(service):
            origin, origin_service = machines.backend(service)
            if not origin.host.mptcp:
                return Target(machines.machines[service.host], service, origin, origin_service)
    capability = f"{engine} with MPTCP by {method}{what}"
    raise Unsupported(capability, "the inventory lists no such service before a plain TCP backend")
