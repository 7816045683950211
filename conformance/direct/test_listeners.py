"""DIRECT-17: a join is accepted where a listener is, and refused where none is."""

import pytest

from mptcp_lab.inventory.engines import PROXIES
from mptcp_lab.machines.session import Machine, Session
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.direct.endpoints import Ends
from mptcp_lab.suite.direct.listeners import SHAPES, check_joins_by_listener, check_joins_proxy
from mptcp_lab.suite.direct.mapped import check_mapped_endpoints
from mptcp_lab.suite.find.proxies import find_listening
from mptcp_lab.suite.requirements import IPV6, LISTENING, SERVER_TWO_PATHS, TWO_PATHS

LISTENERS = [name for name in SHAPES if not name.endswith("ipv6") and name != "ipv6-only"]
OVER_IPV6 = [name for name in SHAPES if name not in LISTENERS]


@claim("DIRECT-17", requires=SERVER_TWO_PATHS)
@pytest.mark.parametrize("listener", LISTENERS)
def test_listener(client: Machine, server: Machine, evidence: EvidenceBox, listener: str) -> None:
    """A join to an address without a listener gets RST, any other is accepted; the connection goes on."""
    check_joins_by_listener(client, server, SHAPES[listener], evidence)


@claim("DIRECT-17", requires=(SERVER_TWO_PATHS, IPV6))
@pytest.mark.parametrize("listener", OVER_IPV6)
def test_listener_over_ipv6(client: Machine, server: Machine, evidence: EvidenceBox, listener: str) -> None:
    """The same with listeners and peers over IPv6; an IPv6-only one refuses IPv4."""
    check_joins_by_listener(client, server, SHAPES[listener], evidence)


@claim("DIRECT-17", case="mapped-endpoints", requires=(TWO_PATHS, SERVER_TWO_PATHS))
@pytest.mark.parametrize("to", ["mapped", "ipv4"])
def test_mapped_endpoints(client: Machine, server: Machine, evidence: EvidenceBox, to: str) -> None:
    """Endpoints that are written as mapped addresses join, on a connection to a mapped or an IPv4 address."""
    check_mapped_endpoints(Ends(client, server), to == "mapped", evidence)


@claim("DIRECT-17", requires=LISTENING)
@pytest.mark.parametrize("listen", ["wildcard", "dual-stack"])
@pytest.mark.parametrize("engine", PROXIES)
def test_proxy(client: Machine, machines: Session, evidence: EvidenceBox, engine: str, listen: str) -> None:
    """A proxy with one socket on all addresses gets every subflow, over each of its IP versions."""
    service = find_listening(machines.lab, engine, listen)
    check_joins_proxy(client, machines, service, evidence)
