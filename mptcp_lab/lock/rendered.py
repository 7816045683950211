"""What the files of a rendering look like on a host."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterable

from mptcp_lab.render import File


def expected_files(files: Iterable[File]) -> dict[str, dict[str, str]]:
    """Return, by host and path, what `look` has to find: mode, owner (root) and SHA-256."""
    expected: dict[str, dict[str, str]] = {}
    for file in files:
        mode = stat.filemode(stat.S_IFREG | int(file.mode, 8))
        digest = hashlib.sha256(file.content.encode()).hexdigest()
        expected.setdefault(file.host, {})[file.path] = f"{mode} 0:0 {digest}"
    return expected
