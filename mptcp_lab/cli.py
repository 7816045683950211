"""``mptcp-lab``: run commands that need neither a checkout nor a lab (``pip install .``, ``pipx run``)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from mptcp_lab import __version__

USAGE_ERROR = 2
#: From a command to the module whose ``main(arguments)`` runs it, and one line of help.
COMMANDS = {
    "doctor": ("mptcp_lab.doctor.command", "find out why two hosts do not use MPTCP, or not all paths"),
    "pcap": ("mptcp_lab.wire.__main__", "report the MPTCP connections of a capture, with RFC 8684 verdicts"),
    "report": (
        "mptcp_lab.report.__main__",
        "render a result.json: html, junit, ktap, kcidb, terminal, compare, history, matrix",
    ),
}


def usage() -> str:
    """Return the help text."""
    lines = [f"  {name:8} {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "Usage: mptcp-lab COMMAND [ARGUMENTS]",
            "",
            *lines,
            "",
            "mptcp-lab COMMAND --help lists the arguments.",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status, or 2 for an unknown command."""
    command, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if command in ("--help", "-h", "help"):
        print(usage())
        return 0
    if command == "--version":
        print(__version__)
        return 0
    if command not in COMMANDS:
        print(f"mptcp-lab: no command {command!r}\n{usage()}", file=sys.stderr)
        return USAGE_ERROR
    module = import_module(COMMANDS[command][0])
    status: int = module.main(rest)
    return status


if __name__ == "__main__":
    sys.exit(main())
