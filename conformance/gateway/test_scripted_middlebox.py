"""GATEWAY-7: a middlebox mirrors options, changes flags, splits or joins segments: no octet is wrong."""

from collections.abc import Callable
from socket import IPPROTO_TCP, TCP_NODELAY

import pytest

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.suite.directions import BOTH, Movement
from mptcp_lab.suite.gateway.middle import (
    ChangesFlags,
    Joins,
    MirrorsOptions,
    Script,
    Splits,
    middlebox,
)
from mptcp_lab.suite.packets import rows
from mptcp_lab.suite.requirements import ORIGIN, SERVER_BEHIND_ROUTER
from mptcp_lab.suite.traffic import is_mptcp

SOME_BYTES, CHUNK_BYTES = 20_000, 500
#: How the connection may end: as MPTCP, as TCP after a fallback, or either.
MPTCP, TCP, EITHER = {True}, {False}, {True, False}
SCRIPTS: dict[str, tuple[Callable[[], Script], set[bool]]] = {
    "mirrors-options": (MirrorsOptions, TCP),
    "sets-flag-A": (lambda: ChangesFlags(0x80), EITHER),
    "clears-flag-H": (lambda: ChangesFlags(0x01), TCP),
    "splits-and-copies-options": (lambda: Splits(copies=True), MPTCP),
    "splits-and-keeps-options-once": (lambda: Splits(copies=False), MPTCP),
    "joins": (Joins, EITHER),
}


@claim("GATEWAY-7", requires=(ORIGIN, SERVER_BEHIND_ROUTER))
@pytest.mark.parametrize("script", SCRIPTS)
def test_middlebox(
    client: Machine, server: Machine, router: Machine, evidence: EvidenceBox, script: str
) -> None:
    """Data of both directions arrives unchanged, on a connection that fell back or survived, at both ends."""
    begin, may_end_as = SCRIPTS[script]
    with middlebox(client, router, server, begin()) as middle, middle.flow(client) as data:
        data.stream.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)  # each chunk is a segment with its own mapping
        moved = Movement(data, BOTH, nbytes=SOME_BYTES, chunk=CHUNK_BYTES).end()
        mine = is_mptcp(data.stream)
    facts, changes = moved.record.facts, middle.script.changes
    evidence.packets(rows(middle.packets(), router.name))
    evidence.figure("packets changed", changes)
    evidence.document("MPTCP at the end, at A and B", [mine, facts and facts.is_mptcp])
    moved.check_intact(SOME_BYTES)
    assert changes, f"the middlebox changed no packet: {len(middle.packets())} packets passed"
    assert facts is not None and mine == facts.is_mptcp, "one end fell back, the other did not"
    assert mine in may_end_as, f"the connection ended as {'MPTCP' if mine else 'TCP'}"
