"""DIRECT-11 and DIRECT-19: a backup is used only while no regular path works, whichever end declares it."""

from contextlib import ExitStack

import pytest

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.probe import eventually
from mptcp_lab.suite.direct.backups import (
    FIRST_IS_BACKUP,
    check_declared,
    check_first_as_backup,
    check_set_at_run_time,
)
from mptcp_lab.suite.direct.endpoints import Ends
from mptcp_lab.suite.expectations import direct_flow, expected_pairs, origin_of, wait_for_joins
from mptcp_lab.suite.packets import format_segments, joins, rows, tcp_capture
from mptcp_lab.suite.requirements import FULL_MESH, ORIGIN, SERVER_TWO_PATHS, TWO_PATHS
from mptcp_lab.suite.traffic import Flow
from mptcp_lab.wire import MpJoinSyn

#: How many bytes each phase transfers, and how long the stream may take to return to a restored path.
PHASE_BYTES = 100_000
RETURNS_WITHIN_SECONDS = 20.0


def count_phase_bytes(data: Flow, address: str) -> int:
    """Let the stream run for `PHASE_BYTES`; return how many bytes the subflows from `address` sent in it."""
    before = data.sent_by_subflow()
    data.wait_for_bytes(PHASE_BYTES)
    after = data.sent_by_subflow()
    return sum(after[pair] - before.get(pair, 0) for pair in after if pair[0] == address)


@claim("DIRECT-11", requires=(ORIGIN, TWO_PATHS, FULL_MESH))
def test_backup(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """A backup endpoint is unused, is used while all regular paths fail, and is unused again afterwards."""
    backup, port = client.address(1), origin_of(server).port
    flags = ["subflow", "fullmesh", "backup"]
    with (
        client.probe.fault("endpoint_change", address=backup, flags=flags),
        tcp_capture(client, port, [client.paths[1].device]) as capture,
        direct_flow(client, server) as data,
    ):
        transfer = data.start()
        wait_for_joins(data, expected_pairs(client, server))
        unused = count_phase_bytes(data, backup)
        with ExitStack() as failing:
            for path in (n for n in range(len(client.paths)) if n != 1):
                failing.enter_context(server.probe.fault("drop", source=client.address(path)))
            used = count_phase_bytes(data, backup)
        eventually(
            lambda: count_phase_bytes(data, backup),
            until=lambda nbytes: nbytes == 0,
            within=RETURNS_WITHIN_SECONDS,
            what="the backup path is left again",
        )
        ended = data.end(transfer)
        packets = capture.stop()
    evidence.packets(rows(packets, client.name, client.paths[1].device))
    evidence.figure("on the backup path beside a working one", unused, "bytes")
    evidence.figure("while that failed", used, "bytes")
    regular = [s for s in joins(packets) if not all(o.backup for o in s.options if isinstance(o, MpJoinSyn))]
    assert not regular, f"joins without the B bit: {format_segments(regular)}"
    assert unused == 0, f"the backup path carried {unused} bytes beside a working one"
    assert used > 0, "the backup path carried nothing although the other failed"
    assert ended.intact, ended.difference


@claim("DIRECT-19", case="declared-by-server", requires=(ORIGIN, TWO_PATHS, SERVER_TWO_PATHS))
def test_declared_by_server(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """The client sends over an address that B declares as backup only while the other path fails."""
    check_declared(Ends(client, server), evidence)


@claim("DIRECT-19", case="set-by", requires=(ORIGIN, TWO_PATHS, SERVER_TWO_PATHS))
@pytest.mark.parametrize("setter", ["client", "server"])
def test_set_at_run_time(client: Machine, server: Machine, evidence: EvidenceBox, setter: str) -> None:
    """Each end moves its data when the other makes a path a backup, and when it makes another one it."""
    check_set_at_run_time(Ends(client, server), setter, evidence)


@claim("DIRECT-19", requires=(ORIGIN, TWO_PATHS, SERVER_TWO_PATHS))
@pytest.mark.parametrize("declared", FIRST_IS_BACKUP)
def test_first_as_backup(client: Machine, server: Machine, evidence: EvidenceBox, declared: str) -> None:
    """The first subflow carries nothing of the end that is told, by one side or both, that it is a backup."""
    check_first_as_backup(Ends(client, server), FIRST_IS_BACKUP[declared], evidence)
