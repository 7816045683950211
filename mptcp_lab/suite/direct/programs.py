"""Run the example programs of docs/programming.md on a host of the lab, without leaving files there."""

from __future__ import annotations

import base64
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from mptcp_lab.answers import records
from mptcp_lab.errors import Unsupported
from mptcp_lab.machines.session import Machine
from mptcp_lab.paths import ROOT

EXAMPLES = ROOT / "examples" / "programming"
RUN_BINARY = 'f=$(mktemp) && trap "rm -f $f" EXIT && base64 -d >"$f" && chmod 700 "$f" && "$f" "$@"'


def client(machine: Machine, language: str, *arguments: str) -> dict[str, Any]:
    """Run the example client in "python" or "c" on a host, and return the JSON document that it printed."""
    if language == "c":
        command, program = ["sh", "-c", RUN_BINARY, "client"], base64.b64encode(compile_client()).decode()
    else:
        command, program = ["python3", "-"], (EXAMPLES / "client.py").read_text()
    (document,) = records(f"[{output(machine, command, arguments, program)}]", f"client in {language}")
    return document


def script(machine: Machine, name: str, *arguments: str) -> str:
    """Run an example shell script in a new network namespace of a host, and return what it printed."""
    command = ["unshare", "--net", "sh", "-s", "--"]
    return output(machine, command, arguments, (EXAMPLES / name).read_text())


def output(machine: Machine, command: list[str], arguments: tuple[str, ...], program: str) -> str:
    """Run a program that is passed on standard input; return its output, or fail if it fails."""
    done = machine.probe.run([*command, *arguments], stdin=program)
    assert done.returncode == 0, f"the example failed on {machine.name}: {done.stderr.strip()}"
    return done.stdout


def compile_client() -> bytes:
    """Return the example client in C, compiled on the controller and linked statically.

    Raises:
        Unsupported: there is no compiler, or it cannot link statically.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise Unsupported("cc", "there is no C compiler on the controller")
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder) / "client"
        argv = [compiler, "-static", "-O2", "-o", str(binary), str(EXAMPLES / "client.c")]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unsupported("cc -static", done.stderr.strip().partition("\n")[0])
        return binary.read_bytes()
