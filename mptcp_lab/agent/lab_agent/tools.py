"""Run programs of the host, and notify systemd."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import subprocess

from .basics import AgentError, Json, patient


class Commands:
    """Runs commands for the controller; those that still run are killed when the probe ends."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()

    def run(self, argv: list[str], timeout: float, stdin: str = "") -> Json:
        """Run a command and return exit status and output; kill its process group after `timeout` seconds.

        `timed_out` in the result is true in that case.
        """
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._running.add(process)
        timed_out = False
        try:
            out, err = process.communicate(stdin.encode(), patient(timeout))
        except subprocess.TimeoutExpired:
            timed_out = True
            self._kill(process)
            out, err = process.communicate()
        finally:
            self._running.discard(process)
        return {
            "returncode": process.returncode,
            "stdout": out.decode(errors="replace"),
            "stderr": err.decode(errors="replace"),
            "timed_out": timed_out,
        }

    @staticmethod
    def _kill(process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Kill the commands that still run."""
        for process in list(self._running):
            self._kill(process)


TOOL_WITHIN = 60.0  # timeout in seconds: an overloaded or emulated host needs ten to start a unit


def run_tool(argv: list[str], stdin: str = "") -> str:
    """Run a system tool that must succeed, and return its standard output.

    Raises AgentError "tool" with the tool's message if it fails or runs out of time, and AgentError
    "unsupported" if it is not installed.
    """
    try:
        done = subprocess.run(
            argv, input=stdin, capture_output=True, text=True, timeout=patient(TOOL_WITHIN), check=False
        )
    except subprocess.TimeoutExpired:
        raise AgentError("tool", f"{' '.join(argv)}: not done within {patient(TOOL_WITHIN):.0f} s") from None
    except FileNotFoundError:
        raise AgentError("unsupported", f"{argv[0]} is not installed on this host", errno.ENOENT) from None
    if done.returncode:
        raise AgentError("tool", f"{' '.join(argv)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def read_records(argv: list[str], *required: str) -> list[Json]:
    """Run a tool that prints a JSON list and return its objects, each with the required fields.

    Empty objects are dropped: ip prints one for each entry that a filter left out. Raises AgentError "tool",
    which quotes the output, for any other output.
    """
    printed = run_tool(argv)
    try:
        document = json.loads(printed or "[]")
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, list) or not all(isinstance(entry, dict) for entry in document):
        raise AgentError("tool", f"{' '.join(argv)}: no list of objects: {printed[:80]!r}")
    found = [entry for entry in document if entry]
    for entry in found:
        if not entry.keys() >= set(required):
            lacking = ", ".join(sorted(set(required) - entry.keys()))
            raise AgentError("tool", f"{' '.join(argv)}: an entry without {lacking}: {str(entry)[:80]}")
    return found


def read_link(device: str) -> Json:
    """Return the object that `ip -j link` prints for one device, with name and flags at least."""
    links = read_records(["ip", "-j", "link", "show", "dev", device], "ifname", "flags")
    if not links:
        raise AgentError("tool", f"ip -j link show dev {device}: no such device in the answer")
    return links[0]


def notify(message: str) -> None:
    """Send a message to systemd as sd_notify(3) does; do nothing if systemd did not start this process."""
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(message.encode(), "\0" + path[1:] if path.startswith("@") else path)
