"""SECURITY-8: rules for addresses in proxies, and in a packet filter on one path."""

import pytest

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.requirements import PROXY_MESH, TWO_PATHS
from mptcp_lab.suite.security.access_rules import NATIVE_TARGETS, carries_alone, denying_address, seen_from
from mptcp_lab.suite.security.harm import damage_of
from mptcp_lab.suite.traffic import Target


@claim("SECURITY-8", requires=(PROXY_MESH, TWO_PATHS))
@pytest.mark.parametrize("target", NATIVE_TARGETS, indirect=True)
def test_denied_address(client: Machine, target: Target, evidence: EvidenceBox) -> None:
    """A denied address may not connect, but it joins and sends; the log has the first address only."""
    allowed, denied = client.address(0), client.address(1)
    with denying_address(target, denied) as ruled:
        refused = not ruled.is_served(client)
        with (
            target.machine.probe.capture(target.machine.devices) as capture,
            ruled.target.flow(client) as data,
        ):
            transfer = data.start()
            alone = carries_alone(ruled, client, data)
            damage, packets = damage_of(data, transfer), capture.stop()
    first, second = seen_from(packets, allowed), seen_from(packets, denied)
    evidence.document("log of the proxy", ruled.log)
    evidence.figure("octets from the allowed address", first.octets)
    evidence.figure("octets from the denied address", second.octets)
    assert refused, f"a new connection from {denied} was served"
    assert alone, f"{denied} sends no data on a connection that {allowed} began"
    assert ruled.lines_with(allowed), f"the log does not name {allowed}: {ruled.log}"
    assert not ruled.lines_with(denied), f"the log names {denied}: {ruled.log}"
    assert (first.with_keys > 0, second.with_keys) == (True, 0), "the keys were not on the first path only"
    assert not damage, damage
