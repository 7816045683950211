"""Shared by the readers of the examination: readings that fail, tools that are run together."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..basics import AgentError, Json, patient

TOOL_WITHIN = 4.0  # timeout in seconds of one tool
TEXT_MAX = 200_000  # characters of a tool's output that are kept
SEARCH_PATH = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"


def unreadable(why: str) -> Json:
    """Return the document of a reading that could not be taken."""
    return {"unreadable": why}


def attempt(read: Callable[[], Any]) -> Any:
    """Return what `read` returns, or the document of an unreadable reading with its error."""
    try:
        return read()
    except PermissionError as error:
        return unreadable(f"needs root: {error.strerror}")
    except (AgentError, OSError, ValueError, KeyError, TypeError, IndexError) as error:
        number = getattr(error, "errno", None)
        return unreadable(f"needs root: {error}" if number in (1, 13) else str(error) or type(error).__name__)


def find_tool(name: str) -> str:
    """Return the path of a program, also of one in a directory for administrators; "" if there is none."""
    return shutil.which(name, path=SEARCH_PATH) or ""


class Tool:
    """A program that runs while other readings are taken."""

    def __init__(self, argv: Sequence[str], stdin: str = "") -> None:
        self.argv = list(argv)
        self._end = time.monotonic() + patient(TOOL_WITHIN)
        self._process: subprocess.Popen[str] | None = None
        self._stdin = stdin
        program = find_tool(argv[0])
        if program:
            self._process = subprocess.Popen(
                [program, *argv[1:]],
                stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                env={**os.environ, "LC_ALL": "C", "PATH": SEARCH_PATH},
                start_new_session=True,
            )

    def result(self) -> tuple[int, str, str]:
        """Return exit status, output and error output; raise AgentError "tool" if there is no result."""
        if self._process is None:
            raise AgentError("tool", f"{self.argv[0]}: not installed")
        try:
            out, err = self._process.communicate(self._stdin or None, max(0.1, self._end - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise AgentError("tool", f"{self.argv[0]}: no answer within {TOOL_WITHIN:g} s") from None
        return self._process.returncode, out[:TEXT_MAX], err

    def output(self) -> str:
        """Return the output; raise AgentError "tool" if the program fails."""
        status, out, err = self.result()
        if status:
            said = (err or out).strip().splitlines()
            message = said[-1] if said else f"exit status {status}"
            refused = "ermitted" in message or "denied" in message or "must be root" in message
            raise AgentError("tool", f"{'needs root: ' if refused else ''}{self.argv[0]}: {message}")
        return out


def read_line(path: str | Path) -> str:
    """Return a small file's text without surrounding blanks; "" if it cannot be read."""
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""


def boot_time() -> float:
    """Return the wall-clock time of the boot, in seconds since the epoch."""
    return time.time() - float(read_line("/proc/uptime").split()[0])
