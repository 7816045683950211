"""Use QEMU's monitor (QMP): pull and plug cables, save and load snapshots of a machine."""

from __future__ import annotations

import argparse
import json
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedRWPair
from pathlib import Path
from typing import Any

from mptcp_lab.answers import member, parse
from mptcp_lab.labs.errors import EmbeddedError
from mptcp_lab.labs.lab_paths import LabPaths, lab_paths

#: Timeout in seconds, long enough to write a machine's memory to its disk on a busy machine.
WITHIN_SECONDS = 120.0


class Monitor:
    """A connection to one machine's monitor; each call returns when its command has completed."""

    def __init__(self, host: str, stream: BufferedRWPair) -> None:
        self.host, self.stream = host, stream
        self.stream.readline()  # the greeting
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: Any) -> Any:
        """Run a QMP command and return its result; raise `EmbeddedError` with QEMU's message."""
        request = {"execute": command, "arguments": arguments}
        self.stream.write(json.dumps(request).encode() + b"\n")
        self.stream.flush()
        while line := self.stream.readline():
            tool = f"QMP of {self.host}"
            answer = parse(line.decode(errors="replace"), tool)
            if not isinstance(answer, dict):
                raise EmbeddedError(
                    f"{tool} did not answer {command} with a JSON object", "./lab down, ./lab up"
                )
            if "error" in answer:
                why = member(answer, tool, "error", "desc")
                raise EmbeddedError(f"{self.host}: {command}: {why}", "./lab up")
            if "return" in answer:
                return answer["return"]  # other messages are events
        raise EmbeddedError(f"{self.host}: QEMU ended during {command}", "./lab up starts it again")

    def set_link(self, device: str, up: bool) -> None:
        """Plug a NIC's cable in (`up`) or pull it; the guest sees its carrier change."""
        self.execute("set_link", name=device, up=up)

    def save(self, name: str) -> None:
        """Save a snapshot of the machine's memory and disk, replacing one with the same name."""
        self._human("savevm", name)

    def load(self, name: str) -> None:
        """Load a snapshot, and continue the machine from it."""
        self._human("loadvm", name)

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Pause the machine during the block, with all its writes flushed to its disk."""
        self.execute("stop")
        try:
            yield
        finally:
            self.execute("cont")

    def reset(self) -> None:
        """Reset the machine, as a power cycle does."""
        self.execute("system_reset")

    def _human(self, word: str, name: str) -> None:
        complaint = self.execute("human-monitor-command", **{"command-line": f"{word} {name}"})
        if complaint.strip():
            raise EmbeddedError(f"{self.host}: {word} {name}: {complaint.strip()}", "./lab down, ./lab up")


@contextmanager
def monitor(paths: LabPaths, host: str) -> Iterator[Monitor]:
    """Connect to a running machine's monitor, which accepts one connection at a time."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(WITHIN_SECONDS)
        try:
            link.connect(str(socket_of(paths, host)))
        except OSError as error:
            raise EmbeddedError(f"{host} has no monitor: {error.strerror}", "./lab up starts it") from None
        with link.makefile("rwb") as stream:
            yield Monitor(host, stream)


def socket_of(paths: LabPaths, host: str) -> Path:
    """Return the Unix socket of a machine's monitor, which only root can open."""
    return paths.run / host / "qmp"


def main() -> int:
    """Pull a NIC's cable, or plug it in: the command that the suite runs for virtual machines."""
    parser = argparse.ArgumentParser(prog="mptcp_lab.labs.vms.monitor", description=main.__doc__)
    for name in ("lab", "host", "nic"):
        parser.add_argument(name)
    parser.add_argument("action", choices=("unplug", "plug"))
    arguments = parser.parse_args()
    try:
        with monitor(lab_paths(arguments.lab), arguments.host) as machine:
            machine.set_link(f"nic-{arguments.nic}", up=arguments.action == "plug")
    except EmbeddedError as error:
        print(error, file=sys.stderr)
        return 4
    return 0


if __name__ == "__main__":
    sys.exit(main())
