"""RELAY-6: B gets the client's address through both proxies."""

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.relay.relays import Relay


@claim("RELAY-6")
def test_gets_the_client(client: Machine, header_relay: Relay, evidence: EvidenceBox) -> None:
    """With the PROXY protocol between all of them, B gets A's own address and port."""
    with header_relay.flow(client) as data:
        ended = data.upload(1000)
        local = data.stream.local
    assert local is not None, "A's socket has no address"
    header = ended.got.proxy
    assert header is not None, "B got no PROXY header"
    evidence.document("PROXY header at B", header)
    version = header_relay.middle.service.proxy_protocol
    assert header["version"] == version, f"the second proxy sends version {version}: {header}"
    assert header["source"] == [local.address, local.port], "not A's own address and port"
    assert ended.intact, ended.difference
