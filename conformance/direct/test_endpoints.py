"""DIRECT-16 and DIRECT-20: endpoints that come and go under a live connection, and what each kind joins."""

import pytest

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.direct.endpoints import (
    ADDED_AGAIN,
    KINDS,
    Ends,
    check_comes_back,
    check_flush,
    check_kind,
)
from mptcp_lab.suite.requirements import ORIGIN, SERVER_TWO_PATHS, TWO_PATHS

REQUIRES = (ORIGIN, TWO_PATHS, SERVER_TWO_PATHS)


@claim("DIRECT-16", requires=REQUIRES)
@pytest.mark.parametrize("endpoint", ADDED_AGAIN)
def test_added_again(client: Machine, server: Machine, evidence: EvidenceBox, endpoint: str) -> None:
    """A deleted endpoint's subflow ends; it comes back each time the endpoint is added, three times."""
    check_comes_back(Ends(client, server), ADDED_AGAIN[endpoint], evidence)


@claim("DIRECT-16", case="flush", requires=REQUIRES)
def test_flush(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """A flush at both ends leaves the first subflow; endpoints that are added afterwards join again."""
    check_flush(Ends(client, server), evidence)


@claim("DIRECT-20", requires=REQUIRES)
@pytest.mark.parametrize("kind", KINDS)
def test_kind(client: Machine, server: Machine, evidence: EvidenceBox, kind: str) -> None:
    """Endpoints of each kind make just the joins that their documentation describes, within the limits."""
    check_kind(Ends(client, server), KINDS[kind], evidence)
