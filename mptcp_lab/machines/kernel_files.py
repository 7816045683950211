"""Find out whether a lab is a column, and name the files that its kernel came from, for the lock."""

from __future__ import annotations

from pathlib import Path

from mptcp_lab.inventory.model import Lab
from mptcp_lab.labs.columns.record import read_record
from mptcp_lab.labs.lab_paths import lab_paths
from mptcp_lab.untrusted import Malformed, Node, parse_json, read_text


def is_column(lab: Lab) -> bool:
    """Return whether a lab's hosts run inside one virtual machine with another kernel."""
    return lab.local and read_record(lab_paths(lab.name)) is not None


def read_kernel_files(lab: Lab) -> dict[str, str]:
    """Return the SHA-256 of each file by its name; none for a lab on this machine's kernel or on hardware."""
    record = read_record(lab_paths(lab.name)) if lab.local else None
    if record is None:
        return {}
    try:
        document = Node(parse_json(read_text(Path(record.kernel) / "kernel.json")))
        return {f"kernel {name}": f"sha256:{each.text()}" for name, each in document["sha256"].members()}
    except Malformed:  # the cache was removed while the lab was up
        return {}
