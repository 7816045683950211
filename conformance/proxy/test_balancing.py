"""PROXY-8: nginx distributes connections over backends, and skips one that is dead."""

from collections.abc import Callable

import pytest

from mptcp_lab.inventory.model import Service
from mptcp_lab.machines.session import Machine, Session
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.probe import eventually
from mptcp_lab.suite.find.proxies import METHODS
from mptcp_lab.suite.packets import first_syns, tcp_capture
from mptcp_lab.suite.proxy.balancing import Balanced, find_balanced
from mptcp_lab.suite.proxy.proxies import LATE_SECONDS, in_seconds
from mptcp_lab.suite.requirements import balances

Find = Callable[[Callable[[Service], bool], str], Balanced]
ROUNDS = 5
#: How an nginx balances, as words for messages. The condition for each is a function with a similar name.
BY_WEIGHT, BY_HASH, SOON_TRIED = "by unequal weights", "by hash", "soon tried again"


@pytest.fixture(params=METHODS)
def find(request: pytest.FixtureRequest, machines: Session) -> Find:
    """Return a function that finds a balancing service with MPTCP by this method."""
    return lambda suits, what: find_balanced(machines, request.param, suits, what)


def uneven(service: Service) -> bool:
    """Return whether the backends have unequal weights."""
    return len({backend.weight for backend in service.backends}) > 1


def is_hashed(service: Service) -> bool:
    """Return whether connections are distributed by the client's address."""
    return service.hashed


def soon_tried(service: Service) -> bool:
    """Return whether a dead backend is tried again soon, and the backends have unequal weights."""
    return uneven(service) and in_seconds(service.backends[0].fail_timeout) < 5


@claim("PROXY-8", case="weight", requires=balances(uneven, BY_WEIGHT))
def test_weight(client: Machine, find: Find, evidence: EvidenceBox) -> None:
    """Each backend gets connections in proportion to its weight."""
    weighted = find(uneven, BY_WEIGHT)
    weights = [backend.weight for backend in weighted.service.backends]
    got = weighted.serve(client, ROUNDS * sum(weights))
    evidence.document("connections per backend", got)
    fair = tuple(ROUNDS * weight for weight in weights)
    assert got == fair, f"connections per backend are not in proportion to the weights {weights}"


@claim("PROXY-8", case="hash", requires=balances(is_hashed, BY_HASH))
def test_hash(client: Machine, find: Find, evidence: EvidenceBox) -> None:
    """All connections from one address go to one backend, `hash $remote_addr consistent`."""
    listener = find(is_hashed, BY_HASH)
    sources = [client.address(path, family) for path in range(len(client.paths)) for family in (4, 6)]
    got = {source: listener.serve(client, 6, source=source) for source in sources}
    evidence.document("connections per backend, by A's address", got)
    for source, counts in got.items():
        assert sorted(counts)[-1] == 6, f"connections from {source} were spread over backends: {counts}"


@claim("PROXY-8", case="dead-backend", requires=balances(soon_tried, SOON_TRIED))
def test_dead_backend(client: Machine, find: Find, evidence: EvidenceBox) -> None:
    """A dead backend is skipped for fail_timeout after max_fails attempts, and is used again later."""
    weighted = find(soon_tried, SOON_TRIED)
    settings = weighted.service.backends[0]
    machine, service = weighted.backends[0]
    with weighted.dead(0), tcp_capture(machine, service.port) as capture:
        got = weighted.serve(client, 20)
        attempts = first_syns(capture.stop())
    back = eventually(
        lambda: weighted.serve(client, 4)[0],
        until=bool,
        within=in_seconds(settings.fail_timeout) + LATE_SECONDS,
        what="connections at the backend that is alive again",
    )
    evidence.document("connections per backend while one is dead", got)
    evidence.figure("attempts at the dead backend", len(attempts))
    evidence.figure("connections at it afterwards, of 4", back)
    assert got == (0, 20), f"connections per backend, the first one dead: {got}"
    assert len(attempts) == settings.max_fails, "the dead backend was not left out"
