"""The virtual environment that ./lab builds: whole or not there, whoever interrupts or runs beside it.

Python's venv and pip are stand-ins: what is looked at is what ./lab does when they fail, hang or are killed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mptcp_lab.probe import eventually
from tests.front.conftest import Checkout

#: A Python whose venv makes a folder with this very program, and whose pip installs two programs.
PYTHON = """\
#!/bin/sh
stand_in={folder}
case "$*" in
"-c import ensurepip, venv") exit 0 ;;
"-m venv "*)
    mkdir -p "$3/bin" "$3/lib"
    cp "$0" "$3/bin/python" ;;
*"-m pip install"*)
    echo "$0" >>"$stand_in/installs"
    [ ! -p "$stand_in/hold" ] || cat "$stand_in/hold"
    [ ! -e "$stand_in/fails" ] || exit 1
    for program in ansible-playbook pytest; do cp "$0" "${{0%/*}}/$program"; done ;;
"-c import site"*) echo "${{0%/bin/python}}/lib" ;;
"-c import mptcp_lab") exit 0 ;;
"-m mptcp_lab.wire "*) echo "reading with $0" ;;
*) exec {python} "$@" ;;
esac
"""


class Installer:
    """A checkout whose Python is the stand-in."""

    def __init__(self, checkout: Checkout, folder: Path) -> None:
        self.checkout, self.folder = checkout, folder
        program = folder / "bin" / "python3"
        program.parent.mkdir(parents=True)
        program.write_text(PYTHON.format(folder=f"'{folder}'", python=sys.executable))
        program.chmod(0o755)
        checkout.environment["PATH"] = f"{program.parent}:{os.environ['PATH']}"

    @property
    def installs(self) -> int:
        log = self.folder / "installs"
        return len(log.read_text().splitlines()) if log.exists() else 0

    @property
    def environments(self) -> list[str]:
        return sorted(path.name for path in (self.checkout.root / ".lab/venvs").iterdir())

    def run(self) -> subprocess.CompletedProcess[str]:
        return self.checkout.lab("pcap", "capture")

    def start(self) -> subprocess.Popen[str]:
        """Run ./lab in a process group of its own, as a terminal does."""
        return subprocess.Popen(
            [str(self.checkout.root / "lab"), "pcap", "capture"],
            cwd=self.checkout.root,
            env={**os.environ, **self.checkout.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def start_and_hold(self) -> subprocess.Popen[str]:
        """Run ./lab until it is in the middle of its installation."""
        os.mkfifo(self.folder / "hold")
        process = self.start()
        eventually(lambda: self.installs, until=bool, within=30, what="an installation under way")
        return process

    def release(self) -> None:
        """Let a held installation go on."""
        (self.folder / "hold").write_text("")
        (self.folder / "hold").unlink()

    def check_works(self) -> None:
        """Check that ./lab runs, in an environment that is whole, and that nothing half-made is left."""
        done = self.run()
        assert done.returncode == 0, done.stderr
        venv = (self.checkout.root / ".venv").resolve()
        assert done.stdout.strip() == f"reading with {venv}/bin/python"
        assert (venv / ".stamp").is_file()
        installs = self.installs
        assert self.run().returncode == 0
        assert self.installs == installs


@pytest.fixture
def installer(checkout: Checkout, tmp_path: Path) -> Installer:
    return Installer(checkout, tmp_path / "stand in")


def test_it_is_built_once_and_readable_by_nobody_else(installer: Installer) -> None:
    installer.check_works()
    assert installer.installs == 1
    assert (installer.checkout.root / ".lab").stat().st_mode & 0o777 == 0o700


def test_a_half_made_one_of_an_older_version_is_replaced(installer: Installer) -> None:
    half = installer.checkout.root / ".venv"
    (half / "bin").mkdir(parents=True)
    (half / "bin/python").symlink_to(sys.executable)
    installer.check_works()
    assert half.is_symlink()


def test_one_whose_programs_are_gone_is_replaced(installer: Installer) -> None:
    installer.check_works()
    (installer.checkout.root / ".venv/bin/pytest").unlink()
    installer.check_works()
    assert installer.installs == 2


def test_one_of_a_checkout_that_was_moved_is_replaced(installer: Installer) -> None:
    installer.check_works()
    elsewhere = installer.checkout.root.with_name("moved")
    installer.checkout.root.rename(elsewhere)
    installer.checkout.root = elsewhere
    installer.check_works()
    assert installer.installs == 2


def test_a_failed_installation_leaves_the_one_that_was_there(installer: Installer) -> None:
    installer.check_works()
    (before,) = installer.environments
    (installer.checkout.root / "requirements.txt").write_text("other\n")
    (installer.folder / "fails").touch()
    failed = installer.run()
    assert failed.returncode == 4
    assert "lab: pip could not install requirements.txt" in failed.stderr
    assert installer.environments == [before]
    assert (installer.checkout.root / ".venv").resolve().name == before
    (installer.folder / "fails").unlink()
    installer.check_works()
    assert before in installer.environments  # programs of it may be running


@pytest.mark.parametrize("signal_sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing_half_made(installer: Installer, signal_sent: signal.Signals) -> None:
    process = installer.start_and_hold()
    os.killpg(process.pid, signal_sent)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 128 + signal_sent
    assert said.splitlines()[-1] == "lab: interrupted"
    assert installer.environments == []
    (installer.folder / "hold").unlink()
    installer.check_works()


def test_after_a_kill_the_next_command_builds_it_anew(installer: Installer) -> None:
    process = installer.start_and_hold()
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    assert len(installer.environments) == 1
    (installer.folder / "hold").unlink()
    installer.check_works()
    assert len(installer.environments) == 1


def test_two_commands_at_once_build_it_once(installer: Installer) -> None:
    first = installer.start_and_hold()
    second = installer.start()
    assert second.stderr is not None
    assert second.stderr.readline() == "Another ./lab prepares .venv; waiting for it\n"
    installer.release()
    for process in (first, second):
        out, err = process.communicate(timeout=30)
        assert process.returncode == 0, err
        assert out.startswith("reading with ")
    assert installer.installs == 1


def test_it_is_built_again_when_the_state_folder_was_removed(installer: Installer) -> None:
    installer.check_works()
    shutil.rmtree(installer.checkout.root / ".lab")
    installer.check_works()
