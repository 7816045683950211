"""Reading and reloading a proxy engine whose processes may be gone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mptcp_lab.errors import Breach
from mptcp_lab.suite.proxy import engines


def target(*answers: tuple[int, str, str]) -> Any:
    """Return a target with haproxy whose host answers commands with these statuses, outputs and errors."""
    found = iter(answers)

    def run(command: list[str], **_: Any) -> SimpleNamespace:
        returncode, stdout, stderr = next(found)
        return SimpleNamespace(returncode=returncode, stdout=stdout, stderr=stderr)

    machine = SimpleNamespace(name="proxy1", handled=set(), probe=SimpleNamespace(run=run))
    return SimpleNamespace(machine=machine, service=SimpleNamespace(engine="haproxy"))


def test_workers_are_the_children_of_the_main_process() -> None:
    assert engines.workers(target((0, "41\n", ""), (0, "42\n43\n", ""))) == {42, 43}


def test_a_main_process_without_children_has_no_workers() -> None:
    """So pgrep answers about a process that has ended, too."""
    assert engines.workers(target((0, "41\n", ""), (1, "", ""))) == set()


@pytest.mark.parametrize("main", ["0", ""])
def test_a_unit_without_a_main_process_has_no_workers(main: str) -> None:
    """The children of process 0 are others: pgrep is not asked."""
    assert engines.workers(target((0, f"{main}\n", ""))) == set()


def test_a_reload_that_fails_is_the_claims_failure() -> None:
    died = target((1, "", "Job for haproxy.service canceled."))
    with pytest.raises(Breach, match=r"systemctl reload haproxy.* failed: Job for haproxy.service canceled"):
        engines.reload(died)
    assert died.machine.handled == {"haproxy"}
