"""The way back from the lab, and from plays that were killed half-way.

Restore comes first, on a lab that other tests have been at. Then plays are killed on fresh hosts, and the
next run converges what they leave. CI kills a few; MPTCP_LAB_KILLS=20 in the environment kills twenty, in
chains: each killed run is followed by the next, from a fresh lab to one that a last run converges.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from mptcp_lab.paths import ROOT
from tests.e2e.conftest import BIN, Configured, environment, run_tool
from tests.e2e.snapshot import differences, snapshot

pytestmark = pytest.mark.long

KILLS = int(os.environ.get("MPTCP_LAB_KILLS", "3"))
CHAIN = 5
#: Where in the length of a first run the moments lie; a run that ended before its moment counts for nothing.
SPREAD = (0.02, 0.9)
#: Facts of what lab.yml gives, of the last thing it gives, and of the way back that no run may leave armed.
CLAIMS = ("--claim=STATE-*", "--claim=DIRECT-3", "--claim=PROXY-1")


def restore(lab: Configured, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the playbook that `./lab restore` runs."""
    playbook = [str(BIN / "ansible-playbook"), "-i", str(lab.own.folder), "playbooks/restore.yml"]
    return run_tool([*playbook, *arguments])


def test_restore_takes_every_host_back_to_what_it_was(configured: Configured) -> None:
    configured_now = set(differences(configured.before, snapshot(configured.own)))
    done = restore(configured)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("no difference") == len(configured.before)
    left = list(differences(configured.before, snapshot(configured.own)))
    assert left == [], "\n".join(left)
    for word in (
        "+endpoint",
        "+nft",
        "+rule (IPv6)",
        "+package: haproxy",
        "+file: /etc/nginx",
        "+active unit",
    ):
        assert any(word in line for line in configured_now), f"the comparison is blind: no {word} before"


def family(pid: int) -> list[int]:
    """Return a process and its descendants, parents first."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # ended meanwhile
        return []
    return [pid, *(each for child in children for each in family(int(child)))]


def killed(lab: Configured, moment: float) -> bool:
    """Run lab.yml and kill -9 it with all its children at a moment (seconds); False where it ended before."""
    with subprocess.Popen(
        lab.command(),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as play:
        try:
            assert play.wait(moment) == 0
            return False
        except subprocess.TimeoutExpired:
            # Ansible's workers lead sessions of their own, so the play's process group is not all of it.
            for pid in family(play.pid):
                with suppress(ProcessLookupError):  # ended meanwhile
                    os.kill(pid, signal.SIGKILL)
            return True


def assert_converges(lab: Configured) -> None:
    """Assert that a run succeeds, and that the lab is then what the inventory says."""
    lab.play()
    run = lab.suite(*CLAIMS)
    verdicts = run.verdicts()
    assert verdicts["DIRECT-3"] == "pass", run.output
    assert run.code == 0, run.output
    for host in lab.own.lab.hosts:
        armed = lab.own.ssh_may_fail(host, "systemctl is-active mptcp-lab-way-back.timer").strip()
        assert armed == "inactive", f"{host}: a killed run's way back is still armed"


def test_what_a_killed_run_changed_is_taken_back(configured: Configured) -> None:
    """Whatever it had noted and not done yet, and whatever it had done."""
    seed = time.time_ns()
    moment = random.Random(seed).uniform(*SPREAD) * configured.seconds
    configured.own.down()
    configured.begin()
    killed(configured, moment)
    print(f"seed {seed}: killed at {moment:.1f} s")
    done = restore(configured)
    assert done.returncode == 0, done.stdout
    left = list(differences(configured.before, snapshot(configured.own)))
    assert left == [], "\n".join(left)


@pytest.mark.parametrize("chain", range((KILLS + CHAIN - 1) // CHAIN))
def test_the_next_run_converges_what_killed_runs_leave(configured: Configured, chain: int) -> None:
    seed = time.time_ns()
    draw = random.Random(seed)
    configured.own.down()
    configured.begin()
    left, moments = min(CHAIN, KILLS - chain * CHAIN), []
    while left:
        moments.append(draw.uniform(*SPREAD) * configured.seconds)
        left -= killed(configured, moments[-1])
    print(f"seed {seed}: killed at {', '.join(f'{moment:.1f}' for moment in moments)} s")
    assert_converges(configured)
