"""The proxies' listeners of a lab, by engine and way of enabling MPTCP."""

from __future__ import annotations

from collections.abc import Callable

from mptcp_lab.inventory.model import Service
from mptcp_lab.machines.session import Session
from mptcp_lab.suite.requirements import METHODS, find_proxy
from mptcp_lab.suite.traffic import Target

ENGINES = ("haproxy", "nginx")
PROXY_TARGETS = tuple(f"{engine}-{method}" for engine in ENGINES for method in METHODS)


def proxy_target(
    machines: Session, name: str, suits: Callable[[Service], object] = lambda _: True, what: str = ""
) -> Target:
    """Return the listener of a name such as ``haproxy-native``, before one backend that speaks only TCP.

    `suits` tells which of them, and `what` says it in words. Raises `Unsupported` where the lab has none.
    """
    service = find_proxy(machines.lab, name, suits, what)
    return Target(machines.machines[service.host], service, *machines.backend(service))
