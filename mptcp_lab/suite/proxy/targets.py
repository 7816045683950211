"""Find the proxies' listeners of a lab, by engine and by the method that gives them MPTCP."""

from __future__ import annotations

from collections.abc import Callable

from mptcp_lab.inventory.engines import PROXIES
from mptcp_lab.inventory.model import Service
from mptcp_lab.machines.session import Session
from mptcp_lab.suite.find.proxies import METHODS, find_proxy
from mptcp_lab.suite.traffic import Target

PROXY_TARGETS = tuple(
    f"{name}-{method}" for name, engine in PROXIES.items() for method in METHODS if method in engine.methods
)


def proxy_target(
    machines: Session, name: str, suits: Callable[[Service], object] = lambda _: True, what: str = ""
) -> Target:
    """Return the listener of a name such as ``haproxy-native``, with one backend that speaks only TCP.

    `suits` is a further condition on the service, and `what` describes it in the error message.

    Raises:
        Unsupported: the lab has no such listener.
    """
    service = find_proxy(machines.lab, name, suits, what)
    return Target(machines.machines[service.host], service, *machines.backend(service))
