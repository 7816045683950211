"""Find the relays that checks use in the inventory: two proxies with MPTCP between them."""

from __future__ import annotations

from contextlib import suppress
from itertools import permutations, product

from mptcp_lab.errors import Unsupported
from mptcp_lab.inventory.engines import PROXIES
from mptcp_lab.inventory.model import Lab, Service
from mptcp_lab.suite.find.proxies import (
    SHORT_TIMEOUTS,
    Suits,
    find_service_at,
    has_short_timeouts,
    may_use,
    may_use_method,
)

#: The proxies that have an option for MPTCP to backends, besides the wrapper.
NATIVE_BACKENDS = tuple(name for name, engine in PROXIES.items() if "native" in engine.backend_methods)
#: Each engine and method of the first proxy's connections, and each engine and method of the second's
#: listener.
RELAYS = (
    *(f"{first}-preload-to-{second}-native" for first, second in permutations(PROXIES, 2)),
    *(f"{first}-native-to-{second}-preload" for first, second in product(NATIVE_BACKENDS, PROXIES)),
)
#: Each engine as first and as second proxy.
ENGINES_APART = RELAYS[:3]
#: A process under the wrapper has no listener without MPTCP, so a second proxy without it has native ones.
RELAYS_TO_TCP = tuple(f"{name}-preload-to-{name}-off" for name in PROXIES)


def find_relay(lab: Lab, name: str, suits: Suits = lambda _: True, what: str = "") -> Service:
    """Return the first proxy's service of a relay such as ``haproxy-native-to-nginx-preload``.

    The name has engine and method of the first proxy's connections, and engine and method of the second
    proxy's listener. The second proxy has one backend, which speaks only TCP. `suits` is a further condition
    on the service, and `what` describes it in the error message.

    Raises:
        Unsupported: the inventory lists no such service.
    """
    first, second = (words.split("-") for words in name.split("-to-"))
    for service in lab.services(first[0]):
        behind = behind_relay(lab, service)
        if behind is None or not suits(service):
            continue
        by_first = may_use_method(service.backends[0].mptcp, first[1])
        if by_first and behind.engine == second[0] and may_use(behind, second[1]):
            return service
    raise Unsupported(f"a relay {name}{what}", "the inventory lists no such service before another proxy")


def behind_relay(lab: Lab, service: Service) -> Service | None:
    """Return the second proxy's service of a relay before a plain TCP server; None if it is no relay."""
    if len(service.backends) != 1 or service.backends[0].mptcp == "off":
        return None
    behind = find_service_at(lab, service.backends[0])
    if behind is None or behind.engine not in PROXIES or len(behind.backends) != 1:
        return None
    return None if lab.hosts[behind.backends[0].host].mptcp else behind


#: The condition that a relay hands the client's address on, and words for it in messages.
HAS_HEADER: tuple[Suits, str] = (lambda service: service.proxy_protocol, " with the PROXY protocol")


def impatient_relays_in(lab: Lab) -> list[str]:
    """Return the names of the lab's relays with short timeouts; raise `Unsupported` if it has none."""
    names = []
    for name in RELAYS:
        with suppress(Unsupported):
            find_relay(lab, name, has_short_timeouts, SHORT_TIMEOUTS)
            names.append(name)
    if not names:
        raise Unsupported(f"a relay{SHORT_TIMEOUTS}", "the inventory lists no such service")
    return names
