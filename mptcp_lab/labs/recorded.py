"""Record which labs of this checkout are up, and from which inventory: `up` writes it, `down` reads it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from mptcp_lab.inventory.validate import RESERVED_LAB_NAMES
from mptcp_lab.labs.lab_paths import LabPaths, write_private


@dataclass(frozen=True)
class Recorded:
    """A lab that `up` was run for: its name, and the absolute path of its inventory."""

    name: str
    source: str


def write(paths: LabPaths, source: str) -> None:
    """Record the inventory that the lab is brought up from."""
    write_private(paths.record, json.dumps({"name": paths.name, "source": str(Path(source).absolute())}))


def read_all(paths: LabPaths) -> list[Recorded]:
    """Return all recorded labs of the checkout of `paths`; an unreadable record has an empty source."""
    if not paths.labs.is_dir():
        return []
    return [_read(folder / paths.record.name) for folder in sorted(paths.labs.iterdir()) if folder.is_dir()]


def find_by_source(paths: LabPaths, source: Path) -> list[str]:
    """Return the names of the labs that are up from an inventory."""
    return [each.name for each in read_all(paths) if each.source == str(source.absolute())]


def _read(path: Path) -> Recorded:
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        document = None
    source = document.get("source") if isinstance(document, dict) else None
    return Recorded(path.parent.name, source if isinstance(source, str) else "")


def is_old(paths: LabPaths) -> bool:
    """Return whether an older version left this lab's state at `paths.old_state`."""
    return paths.name not in RESERVED_LAB_NAMES and paths.old_state.is_dir()
