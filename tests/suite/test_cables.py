"""A cable that is pulled is plugged in again, whatever becomes of who pulled it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mptcp_lab.errors import Inconclusive, LabBroken
from mptcp_lab.machines.cables import Cable, cable_out
from mptcp_lab.paths import ROOT
from mptcp_lab.probe import eventually

KILLED = """
import sys, time
from mptcp_lab.machines.cables import Cable, cable_out
with cable_out(Cable("client eth1", f"touch '{sys.argv[1]}'", f"rm '{sys.argv[1]}'")):
    print("out", flush=True)
    time.sleep(60)
"""


def out_while_there(path: Path) -> Cable:
    return Cable("client eth1", f"touch '{path}'", f"rm -f '{path}'")


def test_it_is_out_meanwhile_and_in_afterwards(tmp_path: Path) -> None:
    with cable_out(out_while_there(tmp_path / "out")):
        assert (tmp_path / "out").exists()
    assert not (tmp_path / "out").exists()


def test_nobody_is_needed_to_plug_it_in(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-c", KILLED, str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None and process.stdout.readline() == b"out\n"
        assert out.exists()
        os.kill(process.pid, signal.SIGKILL)
    eventually(out.exists, until=lambda there: not there, within=10, what="the cable is in")


def test_its_time_is_over_even_if_nothing_ends(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with cable_out(out_while_there(out), within=0.2):
        eventually(out.exists, until=lambda there: not there, within=10, what="the cable is in")


def test_a_command_that_ends_after_that_time_leaves_no_cable_out(tmp_path: Path) -> None:
    """The watchdog plugs the cable in, then the slow command pulls it: it is plugged in once more."""
    out = tmp_path / "out"
    slow = Cable(
        "client eth1",
        f"while [ ! -e '{out}.plugged' ]; do sleep 0.05; done; touch '{out}'",
        f"rm -f '{out}'; touch '{out}.plugged'",
    )
    with cable_out(slow, within=0.2):
        assert out.exists()
    assert not out.exists()


def test_a_switch_that_refuses_leaves_the_check_undecided(tmp_path: Path) -> None:
    cable = Cable("client eth1", "echo no such port >&2; exit 3", f"touch '{tmp_path}/plugged'")
    with pytest.raises(Inconclusive, match="no such port"), cable_out(cable):
        pytest.fail("the cable is in")
    assert (tmp_path / "plugged").exists()  # who knows what the command did


def test_a_cable_that_stays_out_stops_the_run() -> None:
    with (
        pytest.raises(LabBroken, match=r"client eth1: the cable is still out.*busy"),
        cable_out(Cable("client eth1", "true", "echo busy >&2; exit 1")),
    ):
        pass
