"""PROXY-6: which client address B sees."""

import pytest

from mptcp_lab.inventory.engines import PROXIES
from mptcp_lab.machines.session import Machine, Session
from mptcp_lab.plugin import claim
from mptcp_lab.suite.find.proxies import sends_proxy_header
from mptcp_lab.suite.proxy.targets import PROXY_TARGETS, proxy_target
from mptcp_lab.suite.requirements import PROXY_HEADER
from mptcp_lab.suite.traffic import Target

VERSIONS = [
    (name, version)
    for name in PROXY_TARGETS
    for version in PROXIES[name.partition("-")[0]].proxy_protocol
    if version
]


@claim("PROXY-6", case="without")
def test_sees_the_proxy(client: Machine, target: Target) -> None:
    """Without the PROXY protocol B sees the proxy's address and not A's."""
    with target.flow(client) as data:
        ended = data.upload(1000)
    own = {str(nic.address()) for nic in target.machine.host.nics}
    assert ended.got.peer is not None, "the origin recorded no peer"
    assert ended.got.peer.address in own, "B sees an address that is not the proxy's"
    assert ended.got.proxy is None, "a PROXY header came although the service sends none"


@claim("PROXY-6", case="with", requires=PROXY_HEADER)
@pytest.mark.parametrize(("name", "version"), VERSIONS, ids=[f"{n}-v{v}" for n, v in VERSIONS])
@pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
def test_gets_the_client(client: Machine, machines: Session, name: str, version: int, family: int) -> None:
    """With the PROXY protocol B gets A's address and port, and the address and port that A connected to."""
    target = proxy_target(machines, name, *sends_proxy_header(version))
    with target.with_family(family).flow(client) as data:
        ended = data.upload(1000)
        local, peer = data.stream.local, data.stream.peer
    assert local is not None and peer is not None, "A's socket has no addresses"
    header = ended.got.proxy
    assert header is not None, "B got no PROXY header"
    assert header["version"] == version, f"the PROXY header: {header}"
    assert header["source"] == [local.address, local.port], "not A's own address and port"
    assert header["destination"] == [peer.address, peer.port], "not the address and port A connected to"
    assert ended.intact, ended.difference
