"""Pack what runs in the machine of a column: the part of this package that manages labs, as a zip file."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

from mptcp_lab.paths import ROOT

#: Where the machine keeps it, and what belongs to it: modules, the agent, the names of packages by system.
FOLDER = Path("/opt/mptcp-lab")
AGENT_INSIDE = FOLDER / "mptcp_lab/agent"
PARTS = (
    "__init__.py paths.py text.py errors.py untrusted.py folders.py files.py playbook.py answers.py "
    "patience.py inventory labs agent"
).split()


def _files() -> Iterator[Path]:
    tops = [*(ROOT / "mptcp_lab" / part for part in PARTS), ROOT / "roles/system/systems"]
    for top in tops:
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file() and path.suffix != ".pyc":
                yield path


def pack() -> bytes:
    """Return the zip file; the same sources always give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in _files():
            entry = zipfile.ZipInfo(str(path.relative_to(ROOT)))
            archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def fingerprint(packed: bytes) -> str:
    """Return the name of a version of the code."""
    return hashlib.sha256(packed).hexdigest()[:12]
