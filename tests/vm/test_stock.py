"""Debian 12 (Linux 6.1) and Debian 13 (6.12) as installed: `./lab up`, `lab.yml`, and the claims of DIRECT.

Emulated, each takes a good part of an hour, so they are `long`. tests/vm/stock.py describes the machine.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mptcp_lab import patience
from mptcp_lab.labs.vms import qemu
from mptcp_lab.paths import ROOT
from tests.e2e.conftest import BIN, environment
from tests.vm.stock import SUITES, StockMachine, inventory_outside, stock_machine

pytestmark = pytest.mark.long
KERNELS = {"debian-12": "6.1.", "debian-13": "6.12."}
#: What each kernel lacks of the default inventory's settings.
LEFT_OUT = {"debian-12": ["net.mptcp.blackhole_timeout"], "debian-13": []}
#: What a kernel cannot show is no failure, and neither is a figure where everything takes its time.
ACCEPTED = ("pass", "unsupported", "non-strict")


@pytest.fixture(scope="module", params=SUITES)
def machine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StockMachine]:
    """A machine that was just booted; nothing has run in it."""
    if not shutil.which(qemu.PROGRAM):
        pytest.skip(f"unsupported: {qemu.PROGRAM} is not installed (./lab up --inventory vm installs it)")
    with stock_machine(request.param, tmp_path_factory.mktemp(request.param)) as booted:
        yield booted


@pytest.fixture(scope="module")
def inventory(machine: StockMachine) -> Iterator[Path]:
    """The machine's lab, brought up inside, as an inventory for out here."""
    assert "bridge" not in machine.ssh("lsmod"), "the machine is no fresh one"
    assert "7 hosts, lab is up" in machine.up()
    with inventory_outside(machine) as folder:
        yield folder


def outside(machine: StockMachine, *command: str) -> subprocess.CompletedProcess[str]:
    """Run one of the project's commands out here, as patient as the machine asks for."""
    own = environment() | {patience.ENVIRONMENT: str(machine.patience()), "ANSIBLE_NOCOLOR": "1"}
    argv = [str(BIN / command[0]), *command[1:]]
    return subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, env=own, check=False)


def test_the_readmes_commands_work(machine: StockMachine, inventory: Path, tmp_path: Path) -> None:
    assert machine.ssh("uname -r").startswith(KERNELS[machine.system])
    lacking = LEFT_OUT[machine.system]
    played = outside(machine, "ansible-playbook", "-i", str(inventory), "lab.yml")
    printed = " ".join(played.stdout.split())
    assert played.returncode == 0, played.stdout + played.stderr
    assert all(
        f"client: left out because this kernel does not have them: {name}" in printed for name in lacking
    )
    words = ["conformance/direct", f"--hosts={inventory}", f"--results={tmp_path}", "-p", "no:cacheprovider"]
    ran = outside(machine, "pytest", *words)
    result = json.loads((tmp_path / "result.json").read_text())
    bad = {check["case"]: check["verdict"] for check in result["checks"] if check["verdict"] not in ACCEPTED}
    assert result["checks"] and bad == {}, ran.stdout
    for host in result["lab"]["hosts"]:
        named = host["facts"].get("settings_left_out", [])
        assert named == (lacking if host["mptcp"] else []), host["name"]
