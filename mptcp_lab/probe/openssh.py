"""Reach a host with the user's own OpenSSH: names, keys, jump hosts and known hosts are those of its config.

The agent is sent as the probe sends it, and runs in memory. It becomes root by ``sudo -n`` where that works,
and otherwise runs as the user who logs in. The name ``localhost`` is this machine, without SSH.
"""

from __future__ import annotations

import base64
import contextlib
import os
import shlex
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from mptcp_lab.errors import LabError
from mptcp_lab.patience import factor
from mptcp_lab.probe.api import Probe
from mptcp_lab.probe.client import BOOTSTRAP, HostVanished
from mptcp_lab.text import make_printable

CONNECT_TIMEOUT_S = 8
EXAMINE_TIMEOUT_S = 20.0
SUSPECT_TIMEOUT_S = 5.0  # for each path that seems to swallow packets: it is asked once more, alone
OLDEST_PYTHON = (3, 9)
LOCAL = "localhost"
CHECK = f"""import sys
if sys.version_info < {OLDEST_PYTHON}: sys.exit("its python3 is " + sys.version.split()[0])
"""
#: Parts of what ssh or the host's shell prints when it fails, with the sentence and the next step.
FAILURES = (
    (
        "its python3 is",
        "{said}, the doctor needs 3.9 or newer",
        "install a newer python3 there",
    ),
    (
        "python3: ",
        "it has no python3",
        "install python3 there",
    ),
    (
        "Host key verification failed",
        "its host key is not in your known_hosts, or is another one",
        "ssh {host} true",
    ),
    (
        "Permission denied",
        "it refuses your keys ({said})",
        "ssh-add, or ssh {host} true",
    ),
    (
        "Could not resolve hostname",
        "no host of this name is known",
        "look at the Host lines of ~/.ssh/config",
    ),
)


class Unreachable(LabError):
    """A host cannot be read: SSH does not get there, or it cannot run the agent."""


@dataclass(frozen=True)
class Ssh:
    """How OpenSSH is called: its program, options for all hosts, and the arguments that reach single ones."""

    program: str = "ssh"
    options: tuple[str, ...] = ()
    hosts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def command(self, host: str) -> list[str]:
        """Return the command that runs the examiner on a host."""
        if host == LOCAL:
            return ["sh", "-c", remote_command()]
        fixed = ("-T", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_TIMEOUT_S}")
        return [self.program, *fixed, *self.arguments(host), f"exec sh -c {quote(remote_command())}"]

    def arguments(self, host: str) -> list[str]:
        """Return the arguments that name a host."""
        return [*self.options, *self.hosts.get(host, ("--", host))]


def quote(text: str) -> str:
    """Return a text that has no single quote, quoted for any login shell."""
    return f"'{text}'"


def remote_command() -> str:
    """Return the shell command that becomes root if it can, and runs the examiner.

    It has no single quotes and no line ends, so that every login shell passes it on unchanged.
    """
    code = base64.b64encode((CHECK + BOOTSTRAP).encode()).decode()
    start = f'exec(__import__(\\"base64\\").b64decode(\\"{code}\\"))'
    python = f'python3 -I -u -c "{start}" doctor "$SSH_CONNECTION" {factor()}'
    return (
        f'if test "$(id -u)" -gt 0 && sudo -n true 2>/dev/null; then exec sudo -n {python}; '
        f"else exec {python}; fi"
    )


class Process:
    """OpenSSH, or a shell of this machine, as the channel and the transport of a `ProbeClient`."""

    def __init__(self, command: Sequence[str]) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
        )
        self._said = bytearray()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._said += line

    def sendall(self, octets: bytes, /) -> None:
        """Write to the program on the host."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(octets)
            self._process.stdin.flush()
        except ValueError:
            raise BrokenPipeError("closed") from None

    def recv(self, nbytes: int, /) -> bytes:
        """Return output of the program; empty at its end."""
        assert self._process.stdout is not None
        return os.read(self._process.stdout.fileno(), nbytes)

    def recv_stderr_ready(self) -> bool:
        """Return whether there is error output; wait for its end, because the output has ended."""
        self._listener.join(1.0)
        return bool(self._said)

    def recv_stderr(self, nbytes: int, /) -> bytes:
        """Return the end of the error output."""
        return bytes(self._said[-nbytes:])

    def shutdown_write(self) -> None:
        """Close the program's standard input, which ends the agent."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def close(self) -> None:
        """End the process."""
        self.shutdown_write()
        try:
            self._process.wait(0.5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Examiner(Probe):
    """The doctor's connection to one host."""

    @classmethod
    def reach(cls, host: str, ssh: Ssh) -> Self:
        """Start the agent on a host; raise `Unreachable` with the reason if that fails."""
        if host.startswith("-") or not host:
            raise Unreachable("this is no host's name", host, "mptcp-lab doctor --help")
        try:
            process = Process(ssh.command(host))
        except OSError as error:
            raise Unreachable(
                f"cannot run {ssh.program}: {error.strerror}", host, "install OpenSSH"
            ) from None
        client = cls(host, process, process)
        try:
            client.greet(CONNECT_TIMEOUT_S + 4.0)
        except HostVanished as error:
            raise explain(host, client.end_reason or error.what, ssh) from None
        return client

    def examine(self, ports: Sequence[int]) -> dict[str, Any]:
        """Return the document of the host's reading, of which ``ports`` are looked at closely."""
        return self.ask(dict[str, Any], "examine", EXAMINE_TIMEOUT_S, ports=list(ports))

    def listens(self, port: int) -> bool:
        """Return whether a socket of the host listens on a port."""
        return self.ask(bool, "listens", port=port)

    def find_swallowed(self, paths: Sequence[tuple[str, str, str, int]]) -> list[bool]:
        """Return whether paths swallow packets: each has source, device, destination and size in octets."""
        timeout = EXAMINE_TIMEOUT_S + SUSPECT_TIMEOUT_S * len(paths)
        return self.ask(list[bool], "swallowed", timeout, paths=[[*map(str, path)] for path in paths])

    def look_up(self, pairs: Sequence[tuple[str, str, str]]) -> list[dict[str, Any]]:
        """Return the kernel's route for each pair of source and destination, over a device or any ("")."""
        return self.ask(list[dict[str, Any]], "look_up", pairs=[list(pair) for pair in pairs])


def explain(host: str, gone: str, ssh: Ssh) -> Unreachable:
    """Return the error for a host that was not reached, from the last line that ssh or a shell printed."""
    said = make_printable(gone.partition(" (")[2].removesuffix(")") or gone)
    for part, what, step in FAILURES:
        if part in said:
            return Unreachable(what.format(said=said), host, step.format(host=host))
    return Unreachable(
        f"it cannot be reached ({said})",
        host,
        shlex.join([ssh.program, *(word for word in ssh.arguments(host) if word != "--"), "true"]),
    )
