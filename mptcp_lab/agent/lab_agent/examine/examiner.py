"""The doctor's probe: it reads the host, makes connections and captures headers, and changes nothing."""

from __future__ import annotations

import os
import sys
from typing import Any

from ..basics import AgentError, Json
from ..faults.records import read_faults
from ..probe import Probe
from .path_mtu import find_swallowed
from .sockets import is_listening

#: The operations of the probe that the doctor uses; all others are refused.
ALLOWED = frozenset(
    "hello ping clock counters nics connect facts setsockopt close watch examine look_up listens swallowed "
    "capture capture_stop capture_fetch".split()
)


class Examiner(Probe):
    """A probe that runs the operations of `ALLOWED` only, and leaves the faults of others alone."""

    def __init__(self, source: Any, sink: Any, management: str) -> None:
        super().__init__(source, sink)
        self._management = management

    def _keep_keeper(self) -> None:
        """Do nothing: the keeper belongs to the run that applied a fault."""

    def run_operation(self, op: str, args: Json) -> Any:
        """Run an allowed operation."""
        if op not in ALLOWED:
            raise AgentError("refused", f"the doctor does not run {op}")
        return super().run_operation(op, args)

    def _left_faults(self) -> list[Json]:
        """Return the faults that are in force, and undo none."""
        return [{name: each[name] for name in ("id", "kind", "params")} for each in read_faults()]

    def op_examine(self, ports: list[int]) -> Json:
        """See examine."""
        return {**super().op_examine(ports), "management_address": self._management}

    def op_listens(self, port: int) -> bool:
        """See is_listening."""
        return is_listening(port)

    def op_swallowed(self, paths: list[list[str]]) -> list[bool]:
        """See find_swallowed."""
        return find_swallowed(paths)


def examiner_main(management: str) -> int:
    """Serve the doctor on standard input and output until its standard input ends.

    `management` is SSH_CONNECTION: the doctor's address and port, then this host's address and port.
    """
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # the output of a library must not get between the JSON lines
    Examiner(source, sink, "".join(management.split()[2:3])).run()
    # Daemon threads may still use sockets that are being closed; the kernel closes them at exit.
    os._exit(0)
