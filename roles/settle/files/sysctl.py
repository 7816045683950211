"""Bring the kernel's settings to what a sysctl.d file says: `sysctl.py check|apply FILE [RECORD]`.

With the host's record (role record), to what they were before the lab; a setting that is not on record stays.
Prints "changed: key old -> new, ..." or "unchanged". As in sysctl.d(5), a key that begins with "-" may be
missing.
"""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Iterator

PROC_SYS = pathlib.Path("/proc/sys")


def differences(
    path: pathlib.Path, before: dict[str, str] | None
) -> Iterator[tuple[str, pathlib.Path, str, str]]:
    """Yield (key, file under /proc/sys, live value, wanted value) for each setting that differs."""
    for line in path.read_text().splitlines():
        key, equals, wanted = (part.strip() for part in line.partition("="))
        if not equals or key.startswith(("#", ";")):
            continue
        # A slash in a key stands for a dot, as in the name of a VLAN device.
        live = PROC_SYS.joinpath(*(part.replace("/", ".") for part in key.lstrip("-").split(".")))
        if live.exists():
            now = " ".join(live.read_text().split())
            if before is not None:
                wanted = before.get(str(live.relative_to(PROC_SYS)), now)
            if now != wanted:
                yield key, live, now, wanted
        elif not key.startswith("-"):
            sys.exit(f"{path}: this kernel has no setting {key}; remove it, or boot a kernel that has it")


def recorded(path: pathlib.Path) -> dict[str, str]:
    """Return the settings on record, by their path below /proc/sys."""
    found: dict[str, str] = json.loads(path.read_text())["was"]["sysctls"] if path.exists() else {}
    return found


def main() -> None:
    """Compare, apply unless only checking, and print what differed."""
    mode, path = sys.argv[1], pathlib.Path(sys.argv[2])
    before = recorded(pathlib.Path(sys.argv[3])) if sys.argv[3:] else None
    found = list(differences(path, before)) if path.exists() else []
    for _, live, _, wanted in found if mode == "apply" else []:
        live.write_text(wanted)
    changes = ", ".join(f"{key} {now} -> {wanted}" for key, _, now, wanted in found)
    print(f"changed: {changes}" if changes else "unchanged")


main()
