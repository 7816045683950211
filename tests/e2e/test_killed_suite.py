"""A suite killed in the midst of a fault: hosts and switch are what they were, without anybody's help."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path

import pytest

from mptcp_lab.labs import fabric
from mptcp_lab.paths import ROOT
from mptcp_lab.probe import eventually
from tests.e2e.conftest import Configured, environment
from tests.e2e.dwelling import TOLD
from tests.e2e.snapshot import NETWORK, Snapshot, differences, snapshot
from tests.e2e.test_two_suites import LEASE

pytestmark = pytest.mark.long

BACK_WITHIN_SECONDS = 75.0  # a fault lasts 30 s at most, a pulled cable 60 s, when nobody lifts them


def state(lab: Configured) -> Snapshot:
    """Return what hosts and switch are."""
    ports = fabric.port_states(lab.own.paths)
    return {**snapshot(lab.own, NETWORK), "switch": [f"{port}: {now}" for port, now in sorted(ports.items())]}


@pytest.mark.parametrize(
    "case", ["DIRECT-7", "DIRECT-8[link-down-at-B]", "DIRECT-8[cable-out-at-A]", "DIRECT-11"]
)
def test_a_suite_killed_during_a_fault_leaves_nothing(
    configured: Configured, tmp_path: Path, case: str
) -> None:
    told, seed, before = tmp_path / "told", time.time_ns(), state(configured)
    command = configured.suite_command(tmp_path / "results", f"--claim={case}", "-p", "tests.e2e.dwelling")
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**environment(), TOLD: str(told)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as suite:
        eventually(told.exists, until=bool, within=90, what="a fault")
        assert list(differences(before, state(configured))), "the fault does not show"
        time.sleep(random.Random(seed).uniform(0, 1))  # the random moment itself
        suite.kill()
    eventually(
        lambda: list(differences(before, state(configured))),
        until=lambda left: not left,
        within=BACK_WITHIN_SECONDS,
        what=f"the state of before (seed {seed})",
    )
    for host in configured.own.lab.hosts:
        configured.own.ssh(host, f"rm -f {LEASE}")  # a dead suite's; that it expires, another test shows
