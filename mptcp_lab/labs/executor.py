"""Run the commands that touch a lab's fabric: on this machine, or over SSH in the machine of a column."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mptcp_lab.answers import records
from mptcp_lab.labs.command import root_prefix, run
from mptcp_lab.labs.lab_paths import COLUMN, LabPaths


@dataclass(frozen=True)
class Executor:
    """Where a lab's fabric is: ``prefix`` is empty for this machine, else the ssh command of a column.

    The names of namespaces and folders are the same in both places.
    """

    prefix: tuple[str, ...] = ()

    @property
    def is_local(self) -> bool:
        """Return whether commands run on this machine."""
        return not self.prefix

    def command(self, *argv: str) -> list[str]:
        """Return a command as words for this machine, with root's rights where it runs."""
        if self.is_local:
            return [*root_prefix(), *argv]
        return [*self.prefix, shlex.join(argv)]

    def run(self, *argv: str, text: str | None = None, within: float = 30.0) -> str:
        """Run a command, and return its standard output; raise `EmbeddedError` if it fails."""
        return run(*self.command(*argv), text=text, within=within)

    def ip_batch(self, netns: str | None, lines: Iterable[str]) -> None:
        """Run lines of ``ip`` commands in one process, in a network namespace or the machine's own."""
        text = "\n".join(lines)
        if text:
            self.run("ip", *(("-n", netns) if netns else ()), "-batch", "-", text=text + "\n")

    def ip_json(self, netns: str, *arguments: str) -> list[dict[str, Any]]:
        """Return the links (or addresses) that ``ip -json`` prints in a namespace, each with a name."""
        argv = ("ip", "-n", netns, "-json", "-details", *arguments)
        return records(self.run(*argv), " ".join(argv), "ifname")


LOCAL = Executor()


def executor_of(paths: LabPaths) -> Executor:
    """Return the executor of a lab: over SSH if it is a column, else this machine."""
    if not paths.column.exists():
        return LOCAL
    options = ("-F", str(paths.state / "ssh_config"), "-S", str(paths.control))
    return Executor(("ssh", *options, COLUMN))
