"""Let a connection tracker on the gateway end a subflow, or drop the answers to its join (DIRECT-25)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from mptcp_lab.errors import Unsupported
from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.machines.session import Machine
from mptcp_lab.probe import eventually
from mptcp_lab.probe.faults import Fault
from mptcp_lab.suite.direct.live import established_subflows, live_connection
from mptcp_lab.suite.direct.resets import LOOSE, LOSS_TIMEOUT_S, WATCHED_FOR_S
from mptcp_lab.suite.examination import examine
from mptcp_lab.suite.expectations import direct_flow, expected_pairs, wait_for_joins
from mptcp_lab.suite.matrix import reached_by
from mptcp_lab.suite.missing.causes import causes, describe_causes
from mptcp_lab.suite.sockets import AddressPair


def find_routed_pair(client: Machine, router: Machine, server: Machine) -> AddressPair:
    """Return a pair of addresses whose packets the router forwards.

    Raises:
        Unsupported: it forwards none between the paths of client and server.
    """
    for mine in client.paths:
        for theirs in server.paths:
            if reached_by(client.lab, mine, theirs) == f"routed by {router.name}":
                return str(mine.address()), str(theirs.address())
    raise Unsupported(f"a path through {router.name}", "every path is a separate segment", client.name)


@contextmanager
def strict_tracker(router: Machine) -> Iterator[None]:
    """Load the router's connection tracker, which takes no connection that it has not seen begin."""
    tracker = router.probe.capabilities()["nft_ct"]  # the trial loads the tracker, which has the setting
    if not tracker.ok:
        raise Unsupported("nft_ct", tracker.reason, router.name)
    with router.probe.fault("sysctl", name=LOOSE, value=0):
        yield


def _drop_invalid(router: Machine, pair: AddressPair, verdict: str = "drop", blind: bool = False) -> Fault:
    """Let the router drop or reject what it forwards from one address to another and calls INVALID."""
    return router.probe.fault(
        "tracker",
        direction="forward",
        verdict=verdict,
        blind=blind,
        source=pair[0],
        destination=pair[1],
    )


def check_goes_on_without(client: Machine, router: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """Check that a connection loses the subflow without an entry in the gateway's tracker, and nothing else.

    The gateway answers the client's packets on it with RST, as after a reboot of the gateway.
    """
    pair = find_routed_pair(client, router, server)
    with live_connection(client, server) as data:
        wait_for_joins(data.connection, expected_pairs(client, server))
        data.carry()
        stream = data.streams[0]
        before = established_subflows(stream)
        lost = next(ports for ports, each in before.items() if (each.local, each.remote) == pair)
        with ExitStack() as stack:
            stack.enter_context(strict_tracker(router))
            stack.enter_context(_drop_invalid(router, pair, verdict="reject"))
            eventually(
                lambda: sorted(established_subflows(stream)),
                until=lambda ports: lost not in ports,
                within=LOSS_TIMEOUT_S,
                what=f"the end of the subflow {pair} that {router.name} has no entry for",
            )
            data.carry()
            after = established_subflows(stream)
        data.check_intact()
    evidence.document("established subflows of A by their ports", {"before": [*before], "after": [*after]})
    gone = before.keys() - after.keys()
    assert gone == {lost}, f"A lost {sorted(gone)}, not just the subflow of {pair}"


def check_join_named(client: Machine, router: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """Check that the cause of a missing join names the gateway whose tracker has dropped the answer to it."""
    pair = find_routed_pair(client, router, server)
    with (
        strict_tracker(router),
        _drop_invalid(router, (pair[1], pair[0]), blind=True),
        direct_flow(client, server) as data,
    ):
        transfer = data.start()
        matrix, before = expected_pairs(client, server), router.probe.counters()
        others = matrix.addresses - {pair}
        eventually(
            data.pairs,
            until=lambda found: found >= others,
            within=LOSS_TIMEOUT_S,
            what="the other subflows",
        )
        missing = matrix.addresses - data.pairs()
        found = causes(examine(data, matrix, missing, watched_for=WATCHED_FOR_S))
        invalid = router.probe.counters().delta(before)["Conntrack", "invalid"]
        ended = data.end(transfer)
    cause = describe_causes(found, len(matrix.present))
    evidence.text("why a subflow is missing", cause)
    evidence.figure(f"packets that {router.name} called INVALID", invalid)
    assert missing == {pair}, f"subflows are missing: {sorted(missing)}, not just {pair}"
    assert invalid, f"the tracker of {router.name} called no packet INVALID"
    assert "on the way back" in cause and f"routed by {router.name}" in cause, f"the cause: {cause}"
    assert ended.intact, ended.difference
