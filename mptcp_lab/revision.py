"""Read which commit of this project a checkout has, and whether its files were edited since."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from mptcp_lab.paths import ROOT


@dataclass(frozen=True)
class Revision:
    """The commit of a checkout, empty if it is not a Git checkout, and whether files differ from it.

    ``is_edited`` is None where this is unknown.
    """

    commit: str
    is_edited: bool | None

    def __str__(self) -> str:
        return f"{self.commit or 'unknown'}{'+edits' if self.is_edited else ''}"


def read_revision(folder: Path = ROOT) -> Revision:
    """Return the revision of the checkout in a folder; files that Git ignores do not count as edits."""
    commit = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain") if commit else None
    return Revision((commit or "").strip(), None if changes is None else bool(changes))


def _git(folder: Path, *words: str) -> str | None:
    """Return the output of a git command in a folder, or None if it fails or there is no git."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None
