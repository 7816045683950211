"""The example programs of docs/programming.md, run on a host of the lab without leaving anything there."""

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
    """Run the example client in "python" or "c" on a host and return what it printed."""
    if language == "c":
        command, program = ["sh", "-c", RUN_BINARY, "client"], base64.b64encode(compiled()).decode()
    else:
        command, program = ["python3", "-"], (EXAMPLES / "client.py").read_text()
    (document,) = records(f"[{output(machine, command, arguments, program)}]", f"client in {language}")
    return document


def script(machine: Machine, name: str, *arguments: str) -> str:
    """Run an example shell script on a host, in a network namespace of its own; return what it printed."""
    command = ["unshare", "--net", "sh", "-s", "--"]
    return output(machine, command, arguments, (EXAMPLES / name).read_text())


def output(machine: Machine, command: list[str], arguments: tuple[str, ...], program: str) -> str:
    """Run a program that is handed in on standard input; it must succeed."""
    done = machine.probe.run([*command, *arguments], stdin=program)
    assert done.returncode == 0, f"the example failed on {machine.name}: {done.stderr.strip()}"
    return done.stdout


def compiled() -> bytes:
    """Compile the example client in C here, without shared libraries; Unsupported where that fails."""
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
