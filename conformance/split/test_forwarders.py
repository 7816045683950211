"""SPLIT-1 to SPLIT-5: one MPTCP connection, one subflow through each of two packet-forwarding proxies."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

import pytest

from mptcp_lab.machines.session import Machine, Session
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.expectations import announcing_nothing, wait_for_joins
from mptcp_lab.suite.failover.live_stream import check_survives
from mptcp_lab.suite.packets import announcements, answers
from mptcp_lab.suite.requirements import (
    CABLES_OF_DYING_FORWARDER,
    CABLES_OF_OTHER_PATHS,
    FORWARDERS_ON_ONE_NIC,
    FORWARDERS_WITH_OR_WITHOUT_SNAT,
)
from mptcp_lab.suite.split.forwarders import (
    Split,
    check_one_subflow_per_proxy,
    reversed_ways,
    split_of,
    userspace_paths,
    wait_until_established,
)


@claim("SPLIT-1")
def test_announced_by_b(split: Split, evidence: EvidenceBox) -> None:
    """B announces proxy 2's outside address, A joins through it: one subflow through each proxy."""
    with split.announced_to_one_address(), split.outside_captures() as packets, split.flow() as data:
        transfer = data.start()
        found = wait_for_joins(data, split.expected_matrix).pairs
        ended = data.end(transfer)
        check_one_subflow_per_proxy(split, packets(), evidence)
    assert found == split.expected_matrix.addresses, "not one subflow through each proxy"
    assert ended.intact, ended.difference


@claim("SPLIT-1", case="fullmesh")
def test_announced_to_fullmesh(split: Split, evidence: EvidenceBox) -> None:
    """Where A's endpoints are fullmesh, every NIC of A joins proxy 2: more subflows, still one connection."""
    with split.announced_address(), split.flow() as data:
        transfer = data.start()
        found = wait_for_joins(data, split.fullmesh).pairs
        ended = data.end(transfer)
    evidence.subflows(split.fullmesh.rows())
    assert found == split.fullmesh.addresses, "subflows through the proxies, with A's endpoints fullmesh"
    assert ended.intact, ended.difference


@claim("SPLIT-2")
def test_opened_by_a(split: Split, evidence: EvidenceBox) -> None:
    """A opens the second subflow itself, by the userspace path manager: nothing was announced."""
    second = split.ways[1]
    with (
        announcing_nothing(split.server),
        userspace_paths(split.client),
        split.outside_captures() as packets,
        split.flow() as data,
    ):
        transfer = data.start()
        wait_until_established(data)
        steering = split.client.probe.steering(data.stream)
        steering.create_subflow(second.local, 1, second.remote, split.service.port, device=second.nic.device)
        found = wait_for_joins(data, split.expected_matrix).pairs
        ended = data.end(transfer)
        seen = packets()
    check_one_subflow_per_proxy(split, seen, evidence)
    assert found == split.expected_matrix.addresses, "not one subflow through each proxy"
    assert not [s for each in seen for s in announcements(each)], "an address was announced"
    assert ended.intact, ended.difference


@claim("SPLIT-3", requires=FORWARDERS_WITH_OR_WITHOUT_SNAT)
@pytest.mark.parametrize("c_flag", [False, True], ids=["join-allowed", "C-flag"])
@pytest.mark.parametrize("snat", [True, False], ids=["snat", "no-snat"])
def test_addresses_that_b_sees(
    machines: Session, client: Machine, server: Machine, evidence: EvidenceBox, snat: bool, c_flag: bool
) -> None:
    """With and without source NAT, with and without B's C flag: one subflow through each proxy."""
    split = split_of(machines, client, server, snat=snat)
    with ExitStack() as stack:
        if not snat:
            stack.enter_context(split.routed_back())
        if c_flag:
            stack.enter_context(
                server.probe.fault("sysctl", name="net.mptcp.allow_join_initial_addr_port", value=0)
            )
        stack.enter_context(split.announced_to_one_address())
        packets = stack.enter_context(split.outside_captures())
        data = stack.enter_context(split.flow())
        transfer = data.start()
        found = wait_for_joins(data, split.expected_matrix).pairs
        sources = split.seen_by_b(data)
        ended = data.end(transfer)
        seen = packets()
    check_one_subflow_per_proxy(split, seen, evidence)
    assert found == split.expected_matrix.addresses, "not one subflow through each proxy"
    translated = split.insides if snat else {way.local for way in split.ways}
    assert sources == translated, "the addresses of A's subflows as B sees them"
    assert {option.no_join_initial for option in answers(seen[0])} == {c_flag}, "the C flag of B's SYN/ACK"
    assert ended.intact, ended.difference


Loss = AbstractContextManager[None]
DEATHS: dict[str, Callable[[Split, Session], Loss]] = {
    "cables-out": Split.first_proxy_gone,
    "forwards-nothing": Split.first_proxy_deaf,
}


@claim("SPLIT-4", requires=CABLES_OF_DYING_FORWARDER)
@pytest.mark.parametrize("death", DEATHS)
@pytest.mark.parametrize("begins", [0, 1], ids=["first", "second"])
def test_a_proxy_dies(
    machines: Session,
    split: Split,
    evidence: EvidenceBox,
    begins: int,
    death: str,
) -> None:
    """The proxy that carries the stream dies: the stream goes on through the other, and arrives whole."""
    way = split if begins == 0 else reversed_ways(split)
    with way.announced_to_one_address():
        check_survives(way.client, way.target, lambda: DEATHS[death](way, machines), evidence)


@claim("SPLIT-5", requires=(FORWARDERS_ON_ONE_NIC, CABLES_OF_OTHER_PATHS))
def test_one_nic(machines: Session, client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """A client with only one NIC uses both proxies, with two subflows from one address."""
    split = split_of(machines, client, server, one_nic=True)
    with ExitStack() as stack:
        for nic in client.paths[1:]:
            stack.enter_context(machines.cable_out(client, nic))
        stack.enter_context(split.announced_to_one_address())
        packets = stack.enter_context(split.outside_captures())
        data = stack.enter_context(split.flow())
        transfer = data.start()
        found = wait_for_joins(data, split.expected_matrix).pairs
        ended = data.end(transfer)
        check_one_subflow_per_proxy(split, packets(), evidence)
    assert found == split.expected_matrix.addresses, "not one subflow through each proxy"
    assert {local for local, _ in found} == {client.address(0)}, "subflows of another NIC"
    assert ended.intact, ended.difference
