"""Find what sets MPTCP endpoints and limits again after a boot: units, and scripts of network managers."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from .services import PROGRAM

UNIT_FOLDERS = ("etc/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system")
#: Files that are run or read at a boot besides units.
OTHERS = (
    "etc/rc.local",
    "etc/network/interfaces",
    "etc/network/interfaces.d/*",
    "etc/network/if-*.d/*",
    "etc/NetworkManager/dispatcher.d/**/*",
    "etc/networkd-dispatcher/**/*",
    "etc/sysconfig/network-scripts/*",
    "etc/init.d/*",
    "etc/local.d/*",
    "etc/crontab",
    "etc/cron.d/*",
    "var/spool/cron/**/*",
)
#: `ip mptcp endpoint ...` and `ip mptcp limits ...` with the shortest words that ip(8) takes.
SETS_PATH_MANAGER = re.compile(r"\bmptcp\s+(?:e|li?)\w*\s+(?:add|set|change|replace)\b")
#: Lines that do not count: comments, and what a unit undoes when it stops.
LEFT_OUT = re.compile(r"\s*(?:#|ExecStop)")
INSTALL = re.compile(r"(?m)^\[Install\]")
TEXT_MAX = 1 << 16
FILES_MAX = 3000


def read_boot_files(root: Path = Path("/")) -> dict[str, str]:
    """Return the lines that set endpoints or limits, by the file that a boot runs or reads.

    The script that a unit starts counts as a part of the unit. A unit that is not enabled is left out.
    """
    paths = itertools.chain(find_units(root), *(sorted(root.glob(pattern)) for pattern in OTHERS))
    texts = ((path, read_text(path)) for path in itertools.islice(paths, FILES_MAX))
    kept = ((str(path), "\n".join(find_lines(root, path, text))) for path, text in texts)
    return {path: lines for path, lines in kept if lines}


def find_units(root: Path) -> Iterator[Path]:
    """Yield the services that are enabled, or that others start, and their drop-ins; each name once."""
    folders = [root / name for name in UNIT_FOLDERS]
    links = (folder.glob(pattern) for folder in folders for pattern in ("*.wants/*", "*.requires/*"))
    enabled = {path.name for path in itertools.chain.from_iterable(links)}
    seen: set[str] = set()
    for folder in folders:
        for path in sorted(folder.glob("*.service")):
            if path.name in seen:
                continue
            seen.add(path.name)
            if path.name in enabled or not INSTALL.search(read_text(path)):
                yield path
        yield from sorted(folder.glob("*.service.d/*.conf"))


def find_lines(root: Path, path: Path, text: str) -> list[str]:
    """Return the lines of a file that set endpoints or limits, and for a unit those of its scripts too."""
    lines = text.splitlines()
    if path.suffix in (".service", ".conf"):
        started = [match.group(1) for match in map(PROGRAM.match, lines) if match]
        scripts = [read_text(root / name.lstrip("/")) for name in started if name.startswith("/")]
        lines += [line for script in scripts for line in script.splitlines()]
    return [line.strip() for line in lines if SETS_PATH_MANAGER.search(line) and not LEFT_OUT.match(line)]


def read_text(path: Path) -> str:
    """Return the start of a file; "" for one that cannot be read, or that is no text."""
    try:
        with path.open("rb") as file:
            octets = file.read(TEXT_MAX)
    except OSError:
        return ""
    return "" if octets.startswith(b"\x7fELF") else octets.decode(errors="replace")
