"""Find out which processes listen, and how their sockets became, or did not become, MPTCP sockets."""

from __future__ import annotations

import contextlib
import mmap
import os
import re
from pathlib import Path

from ..basics import Json
from .basics import attempt, read_line

PROC = Path("/proc")
SOCKET = re.compile(r"socket:\[(\d+)\]$")
UNIT = re.compile(r"([^/]+\.(?:service|scope|socket))(?:/|$)")
KEPT_ENVIRONMENT = ("LD_PRELOAD", "GODEBUG")
#: Options of services whose value is a configuration file; other arguments may hold secrets.
CONFIGURATION_OPTIONS = ("-f", "-c", "--config", "--configuration")
GO_MARK = b"\xff Go buildinf:"
GO_SEARCHED_BYTES = 64 << 20


def holders(inodes: set[int]) -> dict[int, int]:
    """Return for each of these sockets the process that has it: the one with the lowest number.

    Sockets of processes that this user may not see are left out.
    """
    found: dict[int, int] = {}
    for entry in sorted(int(each.name) for each in PROC.iterdir() if each.name.isdecimal()):
        with contextlib.suppress(OSError):
            for link in (PROC / str(entry) / "fd").iterdir():
                with contextlib.suppress(OSError):
                    match = SOCKET.match(str(link.readlink()))
                    if match and int(match.group(1)) in inodes:
                        found.setdefault(int(match.group(1)), entry)
    return found


def read_process(pid: int, is_closely: bool) -> Json:
    """Return one process; `is_closely` looks into its program's file too."""
    folder = PROC / str(pid)
    program = ""
    with contextlib.suppress(OSError):
        program = str((folder / "exe").readlink())
    maps = attempt(lambda: read_maps(folder))
    libraries = maps if isinstance(maps, list) else []
    return {
        "pid": pid,
        "name": read_line(folder / "comm"),
        "program": program,
        "arguments": read_arguments(folder),
        "unit": read_unit(folder),
        "started": read_start(folder),
        "wrappers": [path for path in maps if "mptcp" in Path(path).name] if isinstance(maps, list) else maps,
        "environment": attempt(lambda: read_environment(folder)),
        "go_version": read_go_version(folder / "exe") if is_closely else "",
        "is_replaced": program.endswith(" (deleted)"),
        "is_static": bool(libraries) and not any(".so" in path for path in libraries),
    }


def read_arguments(folder: Path) -> list[str]:
    """Return the arguments that name configuration files, with their options."""
    words = read_line(folder / "cmdline").split("\0")
    pairs = [[one, two] for one, two in zip(words, words[1:]) if one in CONFIGURATION_OPTIONS]
    return [word for pair in pairs for word in pair]


def read_unit(folder: Path) -> str:
    """Return the systemd unit of a process; "" for one that has none."""
    for line in read_line(folder / "cgroup").splitlines():
        match = UNIT.search(line.rpartition(":")[2])
        if match:
            return match.group(1)
    return ""


def read_start(folder: Path) -> float:
    """Return when a process started, in seconds since the boot."""
    fields = read_line(folder / "stat").rpartition(")")[2].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK") if len(fields) > 19 else 0.0


def read_maps(folder: Path) -> list[str]:
    """Return the files that a process has mapped."""
    text = (folder / "maps").read_text(errors="replace")
    found = (line.split(None, 5) for line in text.splitlines())
    return sorted({words[5] for words in found if len(words) == 6 and words[5].startswith("/")})


def read_environment(folder: Path) -> Json:
    """Return the variables of KEPT_ENVIRONMENT that a process was started with."""
    words = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
    pairs = (word.partition("=") for word in words)
    return {name: value for name, _, value in pairs if name in KEPT_ENVIRONMENT}


def read_go_version(path: Path) -> str:
    """Return the version of Go that a program was built with, such as "go1.24.1"; "" for another program.

    Go 1.18 and newer write it behind a mark of 32 octets (debug/buildinfo).
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            at = content.find(GO_MARK, 0, GO_SEARCHED_BYTES)
            head = content[at : at + 96] if at >= 0 else b""
    except (OSError, ValueError):
        return ""
    if len(head) < 34:
        return ""
    text = head[33 : 33 + head[32]].decode(errors="replace") if head[15] & 2 else ""
    return text.split()[0] if text.startswith("go") else "go"
