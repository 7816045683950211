"""QEMU's monitor (QMP): cables pulled, and a machine's whole state kept and taken back."""

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

#: Writing a machine's memory to its disk on a busy machine.
WITHIN_SECONDS = 120.0


class Monitor:
    """A connection to one machine's monitor; each call returns when it is done."""

    def __init__(self, host: str, stream: BufferedRWPair) -> None:
        self.host, self.stream = host, stream
        self.stream.readline()  # the greeting
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: Any) -> Any:
        """Run a QMP command and return what it returned; `EmbeddedError` with QEMU's own words."""
        request = {"execute": command, "arguments": arguments}
        self.stream.write(json.dumps(request).encode() + b"\n")
        self.stream.flush()
        while line := self.stream.readline():
            tool = f"QMP of {self.host}"
            answer = parse(line.decode(errors="replace"), tool)
            if not isinstance(answer, dict):
                raise EmbeddedError(f"{tool} answered {command} with no object", "./lab down, ./lab up")
            if "error" in answer:
                why = member(answer, tool, "error", "desc")
                raise EmbeddedError(f"{self.host}: {command}: {why}", "./lab up")
            if "return" in answer:
                return answer["return"]  # what else there may be are events
        raise EmbeddedError(f"{self.host}: QEMU ended during {command}", "./lab up starts it again")

    def set_link(self, device: str, up: bool) -> None:
        """Plug a NIC's cable in, or pull it: the guest sees its carrier go."""
        self.execute("set_link", name=device, up=up)

    def save(self, name: str) -> None:
        """Keep the machine's state, memory and disk, under a name; a state of that name is replaced."""
        self._human("savevm", name)

    def load(self, name: str) -> None:
        """Take the machine back to a kept state, running."""
        self._human("loadvm", name)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the machine's clock for a while, with all that it wrote on its disk."""
        self.execute("stop")
        try:
            yield
        finally:
            self.execute("cont")

    def reset(self) -> None:
        """Press the machine's reset button: what a power cycle would do."""
        self.execute("system_reset")

    def _human(self, word: str, name: str) -> None:
        complaint = self.execute("human-monitor-command", **{"command-line": f"{word} {name}"})
        if complaint.strip():
            raise EmbeddedError(f"{self.host}: {word} {name}: {complaint.strip()}", "./lab down, ./lab up")


@contextmanager
def monitor(paths: LabPaths, host: str) -> Iterator[Monitor]:
    """Connect to a running machine's monitor, which takes one connection at a time."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(WITHIN_SECONDS)
        try:
            link.connect(str(socket_of(paths, host)))
        except OSError as error:
            raise EmbeddedError(f"{host} has no monitor: {error.strerror}", "./lab up starts it") from None
        with link.makefile("rwb") as stream:
            yield Monitor(host, stream)


def socket_of(paths: LabPaths, host: str) -> Path:
    """Return where a machine's monitor listens (root only)."""
    return paths.run / host / "qmp"


def main() -> int:
    """Pull a NIC's cable, or plug it in: what the suite does on virtual machines."""
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
