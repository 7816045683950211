"""Run the system's tools, and raise one clear error if they fail."""

from __future__ import annotations

import os
import subprocess

from mptcp_lab.labs.errors import EmbeddedError
from mptcp_lab.patience import patient


def root_prefix() -> list[str]:
    """Return the prefix of a command that needs root: nothing for root, else sudo without a password."""
    return [] if os.geteuid() == 0 else ["sudo", "-n"]


def tool_environment() -> dict[str, str]:
    """Return the environment of the system's tools: this process's, without what is for this Python only.

    Tools start other Pythons. In a root filesystem that is being built, install scripts compile modules, and
    with `PYTHONPYCACHEPREFIX` they would put the bytecode there below a path of this machine.
    """
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def run(*argv: str, text: str | None = None, within: float = 30.0) -> str:
    """Run a command with `text` on standard input, and return its standard output.

    Raises:
        EmbeddedError: it is not installed, failed, or did not end `within` seconds.
    """
    within = patient(within)
    try:
        done = subprocess.run(
            argv,
            input=text,
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
            env=tool_environment(),
        )
    except FileNotFoundError:
        raise EmbeddedError(f"{argv[0]} is not installed", "./lab doctor names the package") from None
    except subprocess.TimeoutExpired:
        raise EmbeddedError(
            f"`{' '.join(argv)}` did not end within {within:g} s", "./lab down, then try again"
        ) from None
    if done.returncode != 0:
        complaint = (done.stderr or done.stdout).strip() or f"exit status {done.returncode}"
        raise EmbeddedError(f"`{' '.join(argv)}` failed: {complaint}", "./lab down, then try again")
    return done.stdout
