"""Provide the relays of the lab: two proxies in a row, by engine and method of each."""

from __future__ import annotations

import pytest

from mptcp_lab.inventory.model import Service
from mptcp_lab.machines.session import Session
from mptcp_lab.suite.find.proxies import SHORT_TIMEOUTS, TWO_LEG_PROXIES, has_short_timeouts
from mptcp_lab.suite.find.relays import ENGINES_APART, HAS_HEADER, RELAYS, RELAYS_TO_TCP, impatient_relays_in
from mptcp_lab.suite.relay.relays import MiddleLeg, Relay, relay_of, two_legs_of
from mptcp_lab.suite.traffic import Target


def plain(service: Service) -> bool:
    """Return whether a service has the engine's timeouts and sends no PROXY header."""
    return not has_short_timeouts(service) and not service.proxy_protocol


@pytest.fixture(params=RELAYS)
def relay(request: pytest.FixtureRequest, machines: Session) -> Relay:
    """Return a relay between a plain client and a plain server."""
    return relay_of(machines, request.param, plain)


@pytest.fixture(params=ENGINES_APART)
def impatient_relay(request: pytest.FixtureRequest, machines: Session) -> Relay:
    """Return a relay whose two proxies have short timeouts."""
    return relay_of(machines, request.param, has_short_timeouts, SHORT_TIMEOUTS)


@pytest.fixture
def impatient_relays(machines: Session) -> list[Relay]:
    """Return every relay of the lab whose two proxies have short timeouts."""
    return [
        relay_of(machines, name, has_short_timeouts, SHORT_TIMEOUTS)
        for name in impatient_relays_in(machines.lab)
    ]


@pytest.fixture(params=ENGINES_APART)
def header_relay(request: pytest.FixtureRequest, machines: Session) -> Relay:
    """Return a relay whose two proxies hand on the client's address by the PROXY protocol."""
    return relay_of(machines, request.param, *HAS_HEADER)


@pytest.fixture(params=RELAYS_TO_TCP)
def relay_to_tcp(request: pytest.FixtureRequest, machines: Session) -> Relay:
    """Return a relay whose second proxy has no MPTCP on its listener."""
    return relay_of(machines, request.param)


@pytest.fixture(params=TWO_LEG_PROXIES)
def two_legs(request: pytest.FixtureRequest, machines: Session) -> tuple[Target, MiddleLeg]:
    """Return a proxy's listener with MPTCP on both of its legs, and the leg to the origin."""
    return two_legs_of(machines, request.param)
