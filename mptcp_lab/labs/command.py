"""Run the system's tools, and raise one clear error if they fail."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from typing import Any

from mptcp_lab.answers import records
from mptcp_lab.labs.errors import EmbeddedError
from mptcp_lab.patience import patient


def root_prefix() -> list[str]:
    """Return the prefix of a command that needs root: nothing for root, else sudo without a password."""
    return [] if os.geteuid() == 0 else ["sudo", "-n"]


def run(*argv: str, text: str | None = None, within: float = 30.0) -> str:
    """Run a command with `text` on standard input, and return its standard output.

    Raises:
        EmbeddedError: it is not installed, failed, or did not end `within` seconds.
    """
    within = patient(within)
    try:
        done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=within, check=False)
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


def ip_batch(netns: str | None, lines: Iterable[str]) -> None:
    """Run lines of ``ip`` commands in one process, in a network namespace or, for None, in the machine's."""
    text = "\n".join(lines)
    if text:
        run(*root_prefix(), "ip", *(("-n", netns) if netns else ()), "-batch", "-", text=text + "\n")


def ip_json(netns: str, *arguments: str) -> list[dict[str, Any]]:
    """Return the links (or addresses) that ``ip -json`` prints in a network namespace, each with a name."""
    argv = ("ip", "-n", netns, "-json", "-details", *arguments)
    return records(run(*root_prefix(), *argv), " ".join(argv), "ifname")
