"""The embedded lab on Debian 13's kernel: `./lab up --kernel`, playbooks, checks, a crash, `./lab down`.

The lab has two hosts: every check of the machine is the same with seven. A crash takes another boot, so its
test is `long`. `./lab test` begins with this file (tests/conftest.py): emulated, it takes minutes.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from mptcp_lab.labs import fabric
from mptcp_lab.labs.columns import column
from mptcp_lab.labs.columns.record import read_record
from mptcp_lab.labs.containers import hosts
from mptcp_lab.labs.lab_paths import COLUMN
from mptcp_lab.labs.vms.machines import loopback
from mptcp_lab.paths import ROOT
from tests.e2e.conftest import BIN, Configured, run_tool
from tests.labs import keep_two_hosts, own_lab

CLAIMS = ("--claim=DIRECT-3", "--claim=DIRECT-7")
#: What these claims need of lab.yml.
PLAYBOOKS = ("network", "mptcp", "origins")


def lab_command(action: str, lab: Configured, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a command of `./lab` on this lab; it must succeed."""
    done = run_tool([str(ROOT / "lab"), action, f"--inventory={lab.own.folder}", *options])
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def configured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Configured]:
    """A client and a server that are up on Debian 13's kernel, and converged."""
    own = own_lab(tmp_path_factory.mktemp("inventory") / "a column", "test-column")
    own.edit(keep_two_hosts)
    own.down()
    lab = Configured(own, tmp_path_factory.mktemp("results"))
    try:
        lab_command("up", lab, "--kernel=debian-13")
        books = [f"playbooks/{name}.yml" for name in PLAYBOOKS]
        done = run_tool([str(BIN / "ansible-playbook"), "-i", str(own.folder), *books])
        assert done.returncode == 0, done.stdout + done.stderr
        yield lab
        lab_command("down", lab)
    finally:
        own.down()
    assert own.traces() == []


def test_the_hosts_run_on_the_kernel_that_was_asked_for(configured: Configured) -> None:
    assert configured.own.ssh("client", "uname -r").startswith("6.12.")
    record = read_record(configured.own.paths)
    assert record and (record.spec, record.chosen_by) == ("debian-13", "option")


def test_the_checks_hold_from_outside(configured: Configured) -> None:
    run = configured.suite(*CLAIMS)
    assert run.verdicts() == {"DIRECT-3": "pass", "DIRECT-7": "pass"}, run.output


def test_nothing_of_the_lab_exists_on_this_machine_but_its_sockets(configured: Configured) -> None:
    paths = configured.own.paths
    assert fabric.list_namespaces(paths) == [paths.fabric]
    assert loopback(COLUMN) not in run_tool(["ss", "-Hltn"]).stdout
    assert configured.own.count_inotify() == 0  # so it fits beside any number of labs
    assert (paths.state.stat().st_mode & 0o777, paths.run.stat().st_mode & 0o777) == (0o700, 0o700)


@pytest.mark.long
def test_a_machine_that_crashed_is_started_again(configured: Configured) -> None:
    paths, lab = configured.own.paths, configured.own.lab
    hosts.stop(paths, [COLUMN])
    assert set(column.status(paths, lab).values()) == {"down"}
    lab_command("up", configured)
    assert set(column.status(paths, lab).values()) == {"up"}
    assert configured.own.ssh("client", "uname -r").startswith("6.12.")
