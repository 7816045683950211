"""DIRECT-13: full mesh and failover over IPv6, and with A on both families."""

from contextlib import ExitStack

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.probe import Fault, NeverHappened, eventually
from mptcp_lab.suite.deviations import ONE_FAMILY, check_not_lacking
from mptcp_lab.suite.direct.fullmesh import check_joins_all
from mptcp_lab.suite.directions import BOTH, Movement
from mptcp_lab.suite.expectations import direct_flow, direct_target, expected_pairs, wait_for_joins
from mptcp_lab.suite.failover.live_stream import ENOUGH_BYTES, RESUMED_WITHIN_SECONDS, check_survives
from mptcp_lab.suite.requirements import FULL_MESH, IPV6, ORIGIN, TWO_PATHS
from mptcp_lab.suite.sockets import AddressPair
from mptcp_lab.suite.traffic import Flow

JOIN_TIMEOUT_S = 10.0


def over_both_families(pairs: set[AddressPair]) -> bool:
    """Return whether some subflows are over IPv4 and some over IPv6."""
    return {":" in local for local, _ in pairs} == {True, False}


def wait_for_both_families(client: Machine, data: Flow) -> None:
    """Wait for subflows over both families; `Unsupported` where the client's kernel is known to make none."""
    try:
        eventually(
            data.pairs, until=over_both_families, within=JOIN_TIMEOUT_S, what="subflows over both families"
        )
    except NeverHappened:
        check_not_lacking(
            ONE_FAMILY, client.probe.kernel, client.name, what="both families in one connection"
        )
        raise


@claim("DIRECT-13", case="fullmesh", requires=(ORIGIN, IPV6, FULL_MESH))
def test_fullmesh(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """Over IPv6 the first data joins every A NIC with every address of B that it reaches, on its own NIC."""
    check_joins_all(client, server, 6, evidence)


@claim("DIRECT-13", case="first-path-lost", requires=(ORIGIN, IPV6, TWO_PATHS, FULL_MESH))
def test_first_path_lost(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """B's firewall drops A-1's IPv6: a stream in each direction goes on over A-2, and arrives whole."""

    def fault() -> Fault:
        return server.probe.fault("drop", source=client.address(0, family=6))

    check_survives(client, direct_target(server, family=6), fault, evidence, BOTH)


@claim("DIRECT-13", case="one-family-lost", requires=(ORIGIN, IPV6, FULL_MESH))
def test_one_family_lost(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """A connection made over IPv6 also joins IPv4 addresses, and both ways survive the loss of IPv6."""
    with ExitStack() as lost, direct_flow(client, server, family=6) as data:
        movement = Movement(data, BOTH)
        wait_for_joins(data, expected_pairs(client, server, family=6))
        wait_for_both_families(client, data)
        movement.wait_for(ENOUGH_BYTES, 10, "octets before the loss")
        for path in range(len(client.paths)):
            lost.enter_context(
                server.probe.fault("drop", direction="both", source=client.address(path, family=6))
            )
        before = {way: movement.sent_by_subflow(way) for way in movement.ways}
        movement.wait_for(ENOUGH_BYTES, RESUMED_WITHIN_SECONDS, "the stream goes on over IPv4")
        after = {way: movement.sent_by_subflow(way) for way in movement.ways}
        moved = movement.end()
    sent = {
        way: {pair: nbytes - before[way].get(pair, 0) for pair, nbytes in pairs.items()}
        for way, pairs in after.items()
    }
    evidence.subflows(
        [
            {"direction": way, "local": pair[0], "remote": pair[1], "bytes": nbytes}
            for way, pairs in sent.items()
            for pair, nbytes in sorted(pairs.items())
        ]
    )
    moved.keep_gaps(evidence)
    for way, pairs in sent.items():
        assert any(nbytes for pair, nbytes in pairs.items() if "." in pair[0]), f"{way}: IPv4 carried nothing"
    moved.check_intact()
