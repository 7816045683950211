"""The embedded lab on Debian 12's kernel, named by the inventory: lab.yml, checks, a crash, and no traces.

Emulated, it takes minutes, so it is `long`. The lab has two hosts: every check of the machine is the same
with seven.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from mptcp_lab.labs import fabric
from mptcp_lab.labs.columns import column
from mptcp_lab.labs.columns.record import read_record
from mptcp_lab.labs.containers import hosts
from mptcp_lab.labs.lab_paths import COLUMN
from mptcp_lab.labs.vms import qemu
from tests.e2e.conftest import BIN, Configured, run_tool
from tests.labs import own_lab

pytestmark = pytest.mark.long
CLAIMS = ("--claim", "DIRECT-3", "--claim", "DIRECT-7", "--claim", "DIRECT-8")
KEPT = {"clients": ["client"], "origins": ["server1"]}


@pytest.fixture(scope="module")
def configured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Configured]:
    """A client and a server on Debian 12's kernel, which `ansible-playbook lab.yml` alone has brought up."""
    if not shutil.which(qemu.PROGRAM):
        pytest.skip(f"unsupported: {qemu.PROGRAM} is not installed (./lab up --kernel sid installs it)")
    own = own_lab(tmp_path_factory.mktemp("inventory") / "a column", "test-column")
    own.edit(keep_two_hosts)
    variables = own.folder / "group_vars/all.yml"
    variables.write_text(variables.read_text() + "\nlab_kernel: debian-12\n")
    own.down()
    lab = Configured(own, tmp_path_factory.mktemp("results"))
    try:
        lab.first_play = lab.play()
        yield lab
    finally:
        own.down()
    assert own.traces() == []


def keep_two_hosts(children: dict) -> None:
    """Leave a client and one server in the inventory."""
    for group in list(children):
        members = children[group]["hosts"]
        for name in [name for name in members if name not in KEPT.get(group, ())]:
            del members[name]
        if not members:
            del children[group]


def test_the_hosts_run_on_the_kernel_that_the_inventory_names(configured: Configured) -> None:
    assert configured.own.ssh("client", "uname -r").startswith("6.1.")
    record = read_record(configured.own.paths)
    assert record and (record.spec, record.chosen_by) == ("debian-12", "inventory")


def test_the_checks_hold_from_outside(configured: Configured) -> None:
    run = configured.suite(*CLAIMS)
    assert run.verdicts() and set(run.verdicts().values()) <= {"pass", "non-strict"}, run.output
    states = fabric.port_states(configured.own.paths)  # DIRECT-8 pulled cables of this fabric
    assert states[fabric.find(configured.own.lab, "client", "eth1").port] == "forwarding"


def test_nothing_of_the_lab_exists_on_this_machine_but_its_sockets(configured: Configured) -> None:
    paths = configured.own.paths
    assert fabric.list_namespaces(paths) == [paths.fabric]
    assert "LISTEN" not in run_tool(["ss", "-Hltn", "src", "127.0.0.1:22"]).stdout
    assert (paths.state.stat().st_mode & 0o777, paths.run.stat().st_mode & 0o777) == (0o700, 0o700)


def test_a_machine_that_crashed_is_started_again(configured: Configured) -> None:
    paths, lab = configured.own.paths, configured.own.lab
    hosts.stop(paths, [COLUMN])
    assert set(column.status(paths, lab).values()) == {"down"}
    command = [str(BIN / "python"), "-m", "mptcp_lab.labs", "up", "--inventory", str(configured.own.folder)]
    done = run_tool(command)
    assert done.returncode == 0, done.stderr
    assert set(column.status(paths, lab).values()) == {"up"}
    assert configured.own.ssh("client", "uname -r").startswith("6.1.")
