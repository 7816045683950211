"""The proxies of the lab, one case per engine and way of enabling MPTCP."""

from __future__ import annotations

import pytest

from mptcp_lab.plugin import Unsupported
from mptcp_lab.suite.session import Session
from mptcp_lab.suite.traffic import Front

ENGINES = ("haproxy", "nginx")
METHODS = ("native", "preload")


@pytest.fixture(params=[f"{engine}-{method}" for engine in ENGINES for method in METHODS])
def front(request: pytest.FixtureRequest, machines: Session) -> Front:
    """A listener of this engine, with MPTCP by this method, before one backend that speaks only TCP."""
    engine, method = request.param.split("-")
    for service in machines.lab.services(engine):
        if service.mptcp == method and len(service.backends) == 1:
            origin, origin_service = machines.backend(service)
            if not origin.host.mptcp:
                return Front(machines.machines[service.host], service, origin, origin_service)
    what = f"{engine} with MPTCP by {method}"
    raise Unsupported(what, "the inventory lists no such service before a plain TCP backend")
