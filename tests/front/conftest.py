"""A checkout to run ./lab in, at a path with a space, that has neither .venv nor .lab."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mptcp_lab.paths import ROOT

#: What makes a checkout; caches and environments stay behind.
SKIPPED = shutil.ignore_patterns(
    ".git", ".lab", ".venv", ".*_cache", "__pycache__", ".hypothesis", ".ansible"
)


@dataclass
class Checkout:
    """A copy of the project that a test may do anything to."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)

    def lab(self, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run ./lab with words, without a terminal."""
        return subprocess.run(
            [str(self.root / "lab"), *words],
            cwd=cwd or self.root,
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def is_untouched(self) -> bool:
        """Return whether ./lab has prepared nothing."""
        return not (self.root / ".lab").exists() and not (self.root / ".venv").exists()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    root = tmp_path / "a check out"
    shutil.copytree(ROOT, root, ignore=SKIPPED, symlinks=True)
    return Checkout(root)
