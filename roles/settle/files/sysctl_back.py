"""Give kernel settings the values that they had before the lab: `sysctl_back.py check|apply FILE RECORD`.

FILE, in the form of sysctl.d(5), names the settings; RECORD (role record) has the values. A setting that is
not on record stays. Prints "changed: key old -> new, ..." or "unchanged".
"""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Iterator

PROC_SYS = pathlib.Path("/proc/sys")


def proc_path(key: str) -> str:
    """Return the path of a sysctl key below /proc/sys, by the rules of sysctl.d(5).

    The first separator decides: after a dot, slashes stand for dots, as in the name of a VLAN device; after a
    slash, all is as it is written.
    """
    first = next((letter for letter in key if letter in "./"), "/")
    return key if first == "/" else key.translate(str.maketrans("./", "/."))


def differences(path: pathlib.Path, before: dict[str, str]) -> Iterator[tuple[str, pathlib.Path, str, str]]:
    """Yield (key, file under /proc/sys, live value, value before the lab) for each setting that differs."""
    for line in path.read_text().splitlines():
        key, equals, _ = (part.strip() for part in line.partition("="))
        if not equals or key.startswith(("#", ";")):
            continue
        live = PROC_SYS / proc_path(key.lstrip("-"))
        if live.exists():
            now = " ".join(live.read_text().split())
            was = before.get(str(live.relative_to(PROC_SYS)), now)
            if now != was:
                yield key, live, now, was


def recorded(path: pathlib.Path) -> dict[str, str]:
    """Return the settings on record, by their path below /proc/sys."""
    found: dict[str, str] = json.loads(path.read_text())["was"]["sysctls"] if path.exists() else {}
    return found


def main() -> None:
    """Compare, apply unless only checking, and print what differed."""
    mode, path, record = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    found = list(differences(path, recorded(record))) if path.exists() else []
    for _, live, _, was in found if mode == "apply" else []:
        live.write_text(was)
    changes = ", ".join(f"{key} {now} -> {was}" for key, _, now, was in found)
    print(f"changed: {changes}" if changes else "unchanged")


main()
