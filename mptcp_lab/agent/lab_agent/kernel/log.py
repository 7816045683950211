"""Follow the kernel log of the host (/dev/kmsg, Documentation/ABI/testing/dev-kmsg)."""

from __future__ import annotations

import errno
import json
import os
import stat
import sys

from ..basics import AgentError

PATH = "/dev/kmsg"
RECORD_BYTES = 8192  # the longest record that the kernel hands out
MOST_LINES = 4000  # of one reading: more are counted, not kept


class KernelLog:
    """The records that the kernel writes after this object was created."""

    def __init__(self, path: str = PATH) -> None:
        """Open the log at its end.

        Raises:
            AgentError: "no-kernel-log": there is none, as in a container, or it may not be read.
        """
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise AgentError("no-kernel-log", f"{path}: {os.strerror(error.errno or 0)}") from None
        if not stat.S_ISCHR(os.fstat(self._descriptor).st_mode):
            os.close(self._descriptor)
            raise AgentError("no-kernel-log", f"{path} is no device: a container has no kernel log")
        os.lseek(self._descriptor, 0, os.SEEK_END)

    def take(self) -> list[str]:
        """Return the kernel's lines since the last call, without those of programs, oldest first."""
        lines: list[str] = []
        while True:
            try:
                record = os.read(self._descriptor, RECORD_BYTES)
            except OSError as error:
                if error.errno == errno.EPIPE:  # records were overwritten before they were read
                    lines.append("(the kernel log has overwritten records here)")
                    continue
                if error.errno == errno.EAGAIN:
                    return lines[:MOST_LINES]
                raise AgentError("no-kernel-log", f"{PATH}: {error}", error.errno) from None
            head, _, text = record.decode(errors="replace").partition(";")
            if is_from_kernel(head):
                lines.append(text.split("\n", 1)[0])

    def close(self) -> None:
        """Close the log."""
        os.close(self._descriptor)


def is_from_kernel(head: str) -> bool:
    """Return whether a record's head ("PRIORITY,SEQUENCE,MICROSECONDS,FLAGS") has facility 0, the kernel."""
    priority = head.split(",", 1)[0]
    return priority.isdigit() and int(priority) >> 3 == 0


def log_main() -> int:
    """Follow the log; print an empty list once it is open, then the new lines for each line of input."""
    try:
        log = KernelLog()
    except AgentError as error:
        print(error, file=sys.stderr)
        return 1
    print("[]", flush=True)
    for _ in sys.stdin:
        print(json.dumps(log.take()), flush=True)
    return 0
