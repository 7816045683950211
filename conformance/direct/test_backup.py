"""DIRECT-11 and DIRECT-19: a backup is used only while no regular path works, whichever end declares it."""

import pytest

from mptcp_lab.machines.session import Machine
from mptcp_lab.plugin import EvidenceBox, claim, mark_fast
from mptcp_lab.suite.direct.backups import (
    FIRST_IS_BACKUP,
    check_backup,
    check_declared,
    check_first_as_backup,
    check_regular_path_lost,
    check_set_at_run_time,
    check_set_by_both,
)
from mptcp_lab.suite.direct.endpoints import Ends
from mptcp_lab.suite.directions import BOTH, UPLOAD
from mptcp_lab.suite.requirements import FULL_MESH, ORIGIN, SERVER_TWO_PATHS, TWO_PATHS


@claim("DIRECT-11", requires=(ORIGIN, TWO_PATHS, FULL_MESH))
def test_backup(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """A backup endpoint is unused, is used while all regular paths fail, and is unused again afterwards."""
    check_backup(client, server, UPLOAD, evidence)


@claim("DIRECT-11", case="both", requires=(ORIGIN, TWO_PATHS, FULL_MESH))
def test_backup_of_both_senders(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """The same while both ends send: each of them uses the backup only while it has to."""
    check_backup(client, server, BOTH, evidence)


@claim("DIRECT-11", case="beside-a-lost-path", requires=(ORIGIN, TWO_PATHS, SERVER_TWO_PATHS))
def test_regular_path_lost(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """A backup stays unused, both ways, while one regular path fails and another one works."""
    check_regular_path_lost(Ends(client, server), evidence)


@claim("DIRECT-19", case="declared-by-server", requires=(ORIGIN, TWO_PATHS, SERVER_TWO_PATHS))
def test_declared_by_server(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """The client sends over an address that B declares as backup only while the other path fails."""
    check_declared(Ends(client, server), evidence)


@mark_fast()
@claim("DIRECT-19", case="set-by", requires=(ORIGIN, TWO_PATHS, SERVER_TWO_PATHS))
@pytest.mark.parametrize("setter", ["client", "server"])
def test_set_at_run_time(client: Machine, server: Machine, evidence: EvidenceBox, setter: str) -> None:
    """Each end moves its data when the other makes a path a backup, and when it makes another one it."""
    check_set_at_run_time(Ends(client, server), setter, evidence)


@claim("DIRECT-19", requires=(ORIGIN, TWO_PATHS, SERVER_TWO_PATHS))
@pytest.mark.parametrize("declared", FIRST_IS_BACKUP)
def test_first_as_backup(client: Machine, server: Machine, evidence: EvidenceBox, declared: str) -> None:
    """An end sends nothing over the first subflow after a side, or both, declared it a backup."""
    check_first_as_backup(Ends(client, server), FIRST_IS_BACKUP[declared], evidence)


@claim("DIRECT-19", case="set-by-both", requires=(ORIGIN, TWO_PATHS, SERVER_TWO_PATHS))
def test_set_by_both(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """Each end leaves the first subflow when both make its path a backup at once."""
    check_set_by_both(Ends(client, server), evidence)
