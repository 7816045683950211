"""SPLIT-1 to SPLIT-5: one MPTCP connection, one subflow through each of two packet-forwarding proxies."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

import pytest

from mptcp_lab.machines.session import Machine, Session
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.directions import BOTH, DOWNLOAD, UPLOAD, Movement
from mptcp_lab.suite.expectations import announcing_nothing, wait_for_joins
from mptcp_lab.suite.failover.live_stream import ENOUGH_BYTES, check_survives
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


@claim("SPLIT-1", case="while-B-sends")
@pytest.mark.parametrize("direction", [DOWNLOAD, BOTH])
def test_data_from_b(split: Split, direction: str) -> None:
    """B sends, or both ends do, over one subflow through each proxy: every octet arrives."""
    with split.announced_to_one_address(), split.flow() as data:
        movement = Movement(data, direction)
        found = wait_for_joins(data, split.expected_matrix).pairs
        movement.wait_for(ENOUGH_BYTES, within=10, what="octets over both proxies")
        moved = movement.end()
    assert found == split.expected_matrix.addresses, "not one subflow through each proxy"
    moved.check_intact()


@claim("SPLIT-1", case="fullmesh")
def test_announced_to_fullmesh(split: Split, evidence: EvidenceBox) -> None:
    """Where A's endpoints are fullmesh, every NIC of A joins proxy 2: more subflows, still one connection."""
    with split.announced_address(), split.flow() as data:
        movement = Movement(data, BOTH)
        found = wait_for_joins(data, split.fullmesh).pairs
        moved = movement.end()
    evidence.subflows(split.fullmesh.rows())
    assert found == split.fullmesh.addresses, "subflows through the proxies, with A's endpoints fullmesh"
    moved.check_intact()


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
        movement = Movement(data, BOTH)
        wait_until_established(data)
        steering = split.client.probe.steering(data.stream)
        steering.create_subflow(second.local, 1, second.remote, split.service.port, device=second.nic.device)
        found = wait_for_joins(data, split.expected_matrix).pairs
        moved = movement.end()
        seen = packets()
    check_one_subflow_per_proxy(split, seen, evidence)
    assert found == split.expected_matrix.addresses, "not one subflow through each proxy"
    assert not [s for each in seen for s in announcements(each)], "an address was announced"
    moved.check_intact()


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
        movement = Movement(data, BOTH)
        found = wait_for_joins(data, split.expected_matrix).pairs
        sources = split.seen_by_b(data)
        moved = movement.end()
        seen = packets()
    check_one_subflow_per_proxy(split, seen, evidence)
    assert found == split.expected_matrix.addresses, "not one subflow through each proxy"
    translated = split.insides if snat else {way.local for way in split.ways}
    assert sources == translated, "the addresses of A's subflows as B sees them"
    assert {option.no_join_initial for option in answers(seen[0])} == {c_flag}, "the C flag of B's SYN/ACK"
    moved.check_intact()


Loss = AbstractContextManager[None]
DEATHS: dict[str, Callable[[Split, Session], Loss]] = {
    "cables-out": Split.first_proxy_gone,
    "forwards-nothing": Split.first_proxy_deaf,
}


def check_other_proxy_takes_over(
    machines: Session, split: Split, begins: int, death: str, direction: str, evidence: EvidenceBox
) -> None:
    """Check that a stream which begins on a way survives the death of its proxy."""
    way = split if begins == 0 else reversed_ways(split)
    with way.announced_to_one_address():
        check_survives(way.client, way.target, lambda: DEATHS[death](way, machines), evidence, direction)


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
    check_other_proxy_takes_over(machines, split, begins, death, UPLOAD, evidence)


@claim("SPLIT-4", case="while-B-sends", requires=CABLES_OF_DYING_FORWARDER)
@pytest.mark.parametrize("death", DEATHS)
@pytest.mark.parametrize(
    ("begins", "direction"), [(0, DOWNLOAD), (1, BOTH)], ids=["first-download", "second-both"]
)
def test_a_proxy_dies_while_b_sends(
    machines: Session, split: Split, evidence: EvidenceBox, begins: int, death: str, direction: str
) -> None:
    """The same while B sends, or both ends do: each direction goes on through the other proxy."""
    check_other_proxy_takes_over(machines, split, begins, death, direction, evidence)


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
        movement = Movement(data, BOTH)
        found = wait_for_joins(data, split.expected_matrix).pairs
        moved = movement.end()
        check_one_subflow_per_proxy(split, packets(), evidence)
    assert found == split.expected_matrix.addresses, "not one subflow through each proxy"
    assert {local for local, _ in found} == {client.address(0)}, "subflows of another NIC"
    moved.check_intact()
