"""Run a share of the checks in further labs that equal the first, each by a separate pytest process."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mptcp_lab import patience
from mptcp_lab.evidence import slug
from mptcp_lab.inventory import Lab
from mptcp_lab.plugin.run import Run
from mptcp_lab.results.part import PartEnd, PartReader
from mptcp_lab.results.result import Check
from mptcp_lab.results.verdict import Ending
from mptcp_lab.untrusted import Malformed

#: File names in the folder of a part.
PART, OUTPUT = "part.jsonl", "output.txt"
#: Timeout in seconds for a part that was told to stop: it ends its check, lifts faults and returns its lease.
STOP_S = 60
#: What must not differ between the labs of one run.
EQUAL_FACTS = ("kernel", "kernel_build", "architecture", "versions")


def find_difference(lab: Lab, other: Lab) -> str:
    """Return why checks cannot be shared among two labs; empty if they can: all but their names is equal."""
    if other.name == lab.name:
        return f"its lab has the name {lab.name} too; give its inventory another lab_name"
    if other.segments != lab.segments:
        return "its segments differ from those of --hosts"
    for name in sorted({*lab.hosts, *other.hosts}):
        if lab.hosts.get(name) != other.hosts.get(name):
            return f"its host {name} differs from that of --hosts"
    return ""


@dataclass
class FurtherLab:
    """A part of a run: the process, the folder of its files, and the inventory as the user named it."""

    inventory: str
    folder: Path
    process: subprocess.Popen[bytes]
    reader: PartReader
    end: PartEnd | None = None

    @classmethod
    def start(
        cls, inventory: str, folder: Path, share: Path, arguments: Sequence[str], where: Path
    ) -> FurtherLab:
        """Start pytest with the arguments of this run in ``where``, the folder that it was called in.

        The process has a process group of its own, so that Ctrl-C on a terminal reaches it by `stop` only: a
        second signal would interrupt it while it undoes faults.
        """
        folder.mkdir(parents=True)
        own = (f"--hosts={inventory}", f"--results={folder}", f"--part-of={share}")
        command = [sys.executable, "-m", "pytest", *arguments, *own, f"--junitxml={folder / 'pytest.xml'}"]
        with (folder / OUTPUT).open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=where,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        return cls(inventory, folder, process, PartReader(folder / PART))

    def new_checks(self) -> Iterator[Check]:
        """Yield the checks that ended since the last call."""
        for entry in self.reader.read():
            if isinstance(entry, PartEnd):
                self.end = entry
            else:
                yield entry

    def has_ended(self, within: float) -> bool:
        """Wait for the process to end, at most ``within`` seconds; return whether it has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(within)
        return self.process.returncode is not None

    def stop(self) -> None:
        """End the process as Ctrl-C does, so that it leaves nothing behind on its hosts."""
        if self.process.poll() is None:
            self.process.terminate()
            if not self.has_ended(patience.patient(STOP_S)):
                self.process.kill()
                self.process.wait()

    def move_evidence(self, check: Check, root: Path) -> None:
        """Move the evidence of a check to that of the whole run, in the folder ``root``."""
        source = self.folder / "evidence" / slug(check.case)
        if source.is_dir():
            (root / "evidence").mkdir(exist_ok=True)
            source.replace(root / "evidence" / source.name)

    def conclude(self, run: Run, was_stopped: bool) -> None:
        """Let the run end as the part has ended, and remove the part's files unless they explain why.

        A part that this run has stopped does not end it.
        """
        if self.end is None and not was_stopped:
            what = (
                f"the run of {self.inventory} ended without a result (exit status {self.process.returncode})"
            )
            run.stop(Ending.LAB_BROKEN, f"{what}: {self._last_line()}", f"read {self.folder / OUTPUT}")
            return
        if self.end and self.end.ending is not Ending.COMPLETE and not was_stopped:
            run.stop(self.end.ending, f"{self.inventory}: {self.end.sentence}", self.end.next_step)
        if difference := find_other_fact(run.facts, self.end.facts if self.end else {}):
            next_step = "share checks among hosts with equal kernels and programs only"
            run.stop(Ending.LAB_BROKEN, f"{self.inventory}: {difference}", next_step)
        shutil.rmtree(self.folder, ignore_errors=True)  # the evidence is elsewhere by now

    def _last_line(self) -> str:
        lines = (self.folder / OUTPUT).read_text(errors="replace").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")


def find_other_fact(mine: Mapping[str, Mapping[str, Any]], others: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the first difference between hosts of two labs that makes their verdicts incomparable."""
    for host in sorted(mine.keys() & others.keys()):
        for name in EQUAL_FACTS:
            here, there = mine[host].get(name), others[host].get(name)
            if here != there:
                return f"{host} has {name} {there}, but {here} in the first lab"
    return ""


def collect(parts: Sequence[FurtherLab], run: Run, tell: Callable[[Check], None]) -> None:
    """Add the checks that ended in further labs to the run, and tell of each."""
    for part in parts:
        try:
            for check in part.new_checks():
                part.move_evidence(check, run.folder)
                run.checks.append(check)
                tell(check)
        except (Malformed, OSError) as error:
            part.stop()
            run.stop(Ending.LAB_BROKEN, f"{part.inventory}: {part.folder / PART}: {error}", "run again")
