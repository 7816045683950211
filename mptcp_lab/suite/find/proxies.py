"""Find the listeners of proxies that checks use in the inventory, by engine and method."""

from __future__ import annotations

from collections.abc import Callable

from mptcp_lab.errors import Unsupported
from mptcp_lab.inventory.engines import PROXIES
from mptcp_lab.inventory.model import Backend, Lab, Service

Suits = Callable[[Service], object]
#: The methods by which a proxy's listener gets MPTCP.
METHODS = ("native", "preload")
#: The engines that balance connections over backends with weights.
BALANCING = tuple(name for name, engine in PROXIES.items() if engine.documented.balances)
TWO_LEG_PROXIES = tuple(
    f"{name}-{method}"
    for name, engine in PROXIES.items()
    for method in METHODS
    if method in engine.backend_methods
)


def may_use(service: Service, method: str) -> bool:
    """Return whether a service may get MPTCP by a method, as far as the inventory decides it.

    A session replaces ``auto`` by the method in use (`machines.methods`). Before that, ``auto`` may become
    any of `METHODS`.
    """
    return may_use_method(service.mptcp, method)


def may_use_method(listed: str, method: str) -> bool:
    """Return whether a method that the inventory lists is, or may become, the other one."""
    return listed == method or (listed == "auto" and method in METHODS)


def find_proxy(lab: Lab, name: str, suits: Suits = lambda _: True, what: str = "") -> Service:
    """Return the listener of a name such as ``haproxy-native``, with one backend that speaks only TCP.

    `suits` is a further condition on the service, and `what` describes it in the error message.

    Raises:
        Unsupported: the inventory lists no such service.
    """
    engine, method = name.split("-")
    for service in lab.services(engine):
        plain = [each for each in service.backends if not lab.hosts[each.host].mptcp]
        if service.accepts_proxy:  # a relay's second proxy, which no client can talk to without a header
            continue
        if may_use(service, method) and len(plain) == len(service.backends) == 1 and suits(service):
            return service
    capability = f"{engine} with MPTCP by {method}{what}"
    raise Unsupported(capability, "the inventory lists no such service before a plain TCP backend")


def find_listening(lab: Lab, engine: str, listen: str) -> Service:
    """Return a proxy's MPTCP listener of a shape (`listen`) before a plain TCP backend.

    Raises:
        Unsupported: the inventory lists no such service.
    """
    for method in METHODS:
        try:
            return find_proxy(lab, f"{engine}-{method}", lambda service: service.listen == listen)
        except Unsupported:
            continue
    capability = f"{engine} with MPTCP and listen: {listen}"
    raise Unsupported(capability, "the inventory lists no such service before a plain TCP backend")


def find_service_at(lab: Lab, backend: Backend) -> Service | None:
    """Return the service that listens on a backend's port at its host; None if the lab has none there."""
    return next((each for each in lab.hosts[backend.host].services if each.port == backend.port), None)


def find_two_legs(lab: Lab, name: str) -> Service:
    """Return the listener of a name such as ``haproxy-native`` that uses MPTCP on both of its legs.

    Raises:
        Unsupported: the inventory lists no such service before an origin with MPTCP.
    """
    engine, method = name.split("-")
    for service in lab.services(engine):
        if len(service.backends) != 1 or not may_use(service, method):
            continue
        backend = service.backends[0]
        behind = find_service_at(lab, backend)
        is_origin = behind is not None and behind.engine == "origin" and behind.mptcp != "off"
        if is_origin and may_use_method(backend.mptcp, method):
            return service
    what = "the inventory lists no such service before an origin with MPTCP"
    raise Unsupported(f"{engine} with MPTCP by {method} on both legs", what)


def find_balancing(lab: Lab, method: str, suits: Suits, what: str) -> Service:
    """Return the balancing listener with several backends that meets the condition `suits`.

    `what` describes the condition in the error message.

    Raises:
        Unsupported: the inventory lists no such service.
    """
    for service in (each for engine in BALANCING for each in lab.services(engine)):
        if may_use(service, method) and len(service.backends) > 1 and suits(service):
            return service
    capability = f"{' or '.join(BALANCING)} balancing {what}, MPTCP by {method}"
    raise Unsupported(capability, "the inventory lists no such service")


def has_short_timeouts(service: Service) -> bool:
    """Return whether the inventory sets both a connect timeout and an idle timeout for a service."""
    return bool(service.connect_timeout and service.idle_timeout)


#: The condition `has_short_timeouts` as words for messages.
SHORT_TIMEOUTS = ", connect_timeout and idle_timeout of its own"


def sends_proxy_header(version: int) -> tuple[Suits, str]:
    """Return the condition that a service sends PROXY protocol `version`, and words for it in messages."""
    return lambda service: service.proxy_protocol == version, f" and PROXY protocol {version}"
