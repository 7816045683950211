"""One configured lab for all end-to-end tests, brought up and converged once."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mptcp_lab.paths import ROOT
from tests.e2e.snapshot import Snapshot, snapshot
from tests.labs import OwnLab, own_lab

BIN = Path(sys.executable).parent


@dataclass
class SuiteRun:
    """One run of the conformance suite."""

    code: int
    output: str
    result: dict[str, Any]
    folder: Path

    def verdicts(self) -> dict[str, str]:
        """Return each case's verdict."""
        return {check["case"]: check["verdict"] for check in self.result["checks"]}

    def reason(self, case: str) -> str:
        """Return why a case did not pass."""
        return next(check["reason"] for check in self.result["checks"] if check["case"] == case)


@dataclass
class Configured:
    """A lab that `lab.yml` has been run on."""

    own: OwnLab
    results: Path
    before: Snapshot = field(default_factory=dict)  # what the hosts were before lab.yml
    first_play: str = ""
    seconds: float = 0.0  # what the first run took
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def begin(self) -> None:
        """Bring fresh hosts up, and look at them before they are configured."""
        self.own.up()
        self.before = snapshot(self.own)

    def command(self, *arguments: str) -> list[str]:
        """Return the command that runs lab.yml on this lab."""
        return [str(BIN / "ansible-playbook"), "-i", str(self.own.folder), "lab.yml", *arguments]

    def play(self, *arguments: str) -> str:
        """Run lab.yml and return what it printed; it must succeed."""
        done = run_tool(self.command(*arguments))
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def suite_command(self, folder: Path, *arguments: str) -> list[str]:
        """Return the command that runs the suite on this lab."""
        command = [str(BIN / "pytest"), "conformance/", f"--hosts={self.own.folder}", f"--results={folder}"]
        return [*command, "-p", "no:cacheprovider", *arguments]

    def results_folder(self) -> Path:
        """Return a new place for results."""
        return self.results / str(next(self.numbers))

    def suite(self, *arguments: str) -> SuiteRun:
        """Run the suite with these arguments and return verdicts, reasons and exit code."""
        folder = self.results_folder()
        done = run_tool(self.suite_command(folder, *arguments))
        return suite_run(done.returncode, done.stdout + done.stderr, folder)


def run_tool(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run one of the project's commands from its root."""
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, env=environment())


def suite_run(code: int, output: str, folder: Path) -> SuiteRun:
    """Return a run that has ended, with its result, if it came to one."""
    path = folder / "result.json"
    result = json.loads(path.read_text()) if path.exists() else {"checks": []}
    return SuiteRun(code, output, result, folder)


def environment() -> dict[str, str]:
    """Return the environment of the tools, without what pytest sets for its own process."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}


@pytest.fixture(scope="session")
def configured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Configured]:
    """A lab that is up and converged; gone at the end of the session."""
    own = own_lab(tmp_path_factory.mktemp("inventory") / "e2e lab", "test-e2e", attackers=True)
    own.down()
    lab = Configured(own, tmp_path_factory.mktemp("results"))
    try:
        lab.begin()
        began = time.monotonic()
        lab.first_play = lab.play()
        lab.seconds = time.monotonic() - began
        yield lab
    finally:
        own.down()
