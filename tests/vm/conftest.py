"""Two virtual machines for the tests: fresh ones, and ones that `lab.yml` has been run on.

Both begin from states in the cache where the same machines were seen before. A configured state is kept only
after a second `lab.yml` changed nothing, and it is good for as long as all that made it stays the same.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mptcp_lab.labs.containers import hosts
from mptcp_lab.labs.vms import machines, qemu
from mptcp_lab.labs.vms import snapshots as states
from mptcp_lab.labs.vms.monitor import monitor
from mptcp_lab.paths import ROOT
from mptcp_lab.probe import eventually
from tests.e2e.conftest import BIN, Configured, run_tool
from tests.labs import OwnLab, own_lab

#: What a machine may take to answer again on a loaded machine where it is emulated.
ANSWERS_WITHIN = 600.0
#: What a configured machine is made of, besides its inventory.
MADE_OF = ("lab.yml", "playbooks", "roles", "templates", "mptcp_lab", "requirements.txt")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnLab]:
    """Machines as `./lab up` leaves them, and that state of theirs by the name of ``up``."""
    if not shutil.which(qemu.PROGRAM):
        pytest.skip(f"unsupported: {qemu.PROGRAM} is not installed (./lab up --inventory vm installs it)")
    lab = own_lab(tmp_path_factory.mktemp("inventory") / "vm", "test-vm", "vm")
    lab.down()
    try:
        begin(lab)
        yield lab
    finally:
        lab.down()
    assert lab.traces() == []


def begin(own: OwnLab) -> None:
    """Bring machines up, and keep what they are then on their own disks."""
    own.up()
    for name in own.lab.hosts:
        with monitor(own.paths, name) as machine:
            machine.save("up")


@pytest.fixture(scope="module")
def configured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Configured]:
    """Machines that `lab.yml` has been run on: twice, and the second run changed nothing."""
    if not shutil.which(qemu.PROGRAM):
        pytest.skip(f"unsupported: {qemu.PROGRAM} is not installed (./lab up --inventory vm installs it)")
    own = own_lab(tmp_path_factory.mktemp("inventory") / "vm", "test-vm-configured", "vm")
    own.down()
    lab = Configured(own, tmp_path_factory.mktemp("results"))
    try:
        converge(lab)
        yield lab
    finally:
        own.down()
    assert own.traces() == []


def converge(lab: Configured) -> None:
    """Wake the machines configured, or configure them and keep what they are then."""
    paths, machines_of_lab = lab.own.paths, lab.own.lab.hosts.values()
    kept = {host: machines.kept_state(paths, host, made_of(lab.own.folder)) for host in machines_of_lab}
    woken = all(states.copy_to_disk(paths, host, state) for host, state in kept.items())
    if not woken:
        lab.own.down()  # one of them alone is of no use
    lab.own.up()
    if not woken:
        lab.first_play = lab.play()
        again = lab.play()
        recap = [line for line in again.splitlines() if "changed=" in line]
        assert recap and all("changed=0" in line and "failed=0" in line for line in recap), again
        for host, state in kept.items():
            states.keep(paths, host, state)


def made_of(inventory: Path) -> str:
    """Return a digest of all that decides what `lab.yml` makes of a machine."""
    digest = hashlib.sha256()
    for top in (*(ROOT / name for name in MADE_OF), inventory):
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file() and path.suffix != ".pyc":
                digest.update(str(path.relative_to(top)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def go_back(own: OwnLab, name: str, state: str) -> None:
    """Take a machine back to a state of its own."""
    with monitor(own.paths, name) as machine:
        machine.load(state)
    answers_again(own, name)


def answers_again(own: OwnLab, name: str, within: float = ANSWERS_WITHIN) -> None:
    """Wait until a machine answers."""
    eventually(lambda: hosts.answers(own.paths, name), until=bool, within=within)


def play(own: OwnLab, playbook: str, *arguments: str) -> tuple[int, str]:
    """Run a playbook; return its exit code, and what it printed on one line."""
    command = [str(BIN / "ansible-playbook"), "-i", str(own.folder), f"playbooks/{playbook}.yml", *arguments]
    done = run_tool(command)
    return done.returncode, " ".join((done.stdout + done.stderr).split())
