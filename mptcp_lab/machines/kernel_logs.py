"""Follow the kernel logs of a lab: one per host, or that of the kernel under hosts that are containers."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from mptcp_lab.inventory.model import Lab
from mptcp_lab.labs.columns.code import AGENT_INSIDE
from mptcp_lab.labs.executor import Executor, executor_of
from mptcp_lab.labs.lab_paths import COLUMN, lab_paths
from mptcp_lab.paths import AGENT
from mptcp_lab.patience import patient
from mptcp_lab.probe import Probe, ProbeError

#: The kernel under the containers of an embedded lab, which no host of the inventory has to itself.
THIS_MACHINE = "this machine"
ANSWER_TIMEOUT_S = 5.0

#: Function that returns the lines of a kernel log since its last call.
TakeLines = Callable[[], list[str]]


class LogUnreadable(Exception):
    """A kernel log cannot be read, with the reason."""


class KernelLogs:
    """The kernel logs that a run can read, and why it cannot read others."""

    def __init__(self, logs: Mapping[str, TakeLines], unreadable: Mapping[str, str]) -> None:
        self._logs = dict(logs)
        #: Reason by name.
        self.unreadable = dict(unreadable)

    def take(self) -> dict[str, list[str]]:
        """Return the lines since the last call, by name; a log that cannot be read any more is left out."""
        found = {}
        for name, take in list(self._logs.items()):
            try:
                found[name] = take()
            except LogUnreadable as error:
                del self._logs[name]
                self.unreadable[name] = str(error)
        return found


@contextmanager
def kernel_logs(lab: Lab, probes: Mapping[str, Probe]) -> Iterator[KernelLogs]:
    """Follow the kernel logs from now to the end of the block."""
    if lab.flavour == "embedded":
        executor = executor_of(lab_paths(lab.name))
        with _kernel_reader(executor) as take:
            yield _read_first({THIS_MACHINE if executor.is_local else COLUMN: take})
    else:
        yield _read_first({name: _host_reader(probe) for name, probe in probes.items()})


def _read_first(logs: Mapping[str, TakeLines]) -> KernelLogs:
    """Return the logs after a first reading, which sorts out those that cannot be read."""
    opened = KernelLogs(logs, {})
    opened.take()
    return opened


def _host_reader(probe: Probe) -> TakeLines:
    def take() -> list[str]:
        try:
            return probe.kernel_log()
        except ProbeError as error:
            raise LogUnreadable(str(error.document.get("message", error))) from None

    return take


@contextmanager
def _kernel_reader(executor: Executor) -> Iterator[TakeLines]:
    """Run the agent's kernel-log command as root, and yield a function that reads from it."""
    python, agent = (sys.executable, AGENT) if executor.is_local else ("python3", AGENT_INSIDE)
    command = executor.command(python, "-B", str(agent), "kernel-log")
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as follower:
        _answer(follower, "")

        def take() -> list[str]:
            return _answer(follower, "\n")

        try:
            yield take
        finally:
            follower.kill()


def _answer(follower: subprocess.Popen[str], question: str) -> list[str]:
    """Write to the follower, and return the list that it prints; raise `LogUnreadable` if it prints none."""
    assert follower.stdin and follower.stdout and follower.stderr
    try:
        follower.stdin.write(question)
        follower.stdin.flush()
    except BrokenPipeError:
        raise LogUnreadable("the process that read it has ended") from None
    if not select.select([follower.stdout], [], [], patient(ANSWER_TIMEOUT_S))[0]:
        raise LogUnreadable(f"no answer within {patient(ANSWER_TIMEOUT_S):g} s")
    line = follower.stdout.readline()
    if not line:
        raise LogUnreadable(follower.stderr.read().strip() or "the process that read it has ended")
    return [str(each) for each in json.loads(line)]
