"""Record which kernel a lab is up on: `up` writes it, everything that uses the lab reads it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields

from mptcp_lab.labs.lab_paths import LabPaths, write_private
from mptcp_lab.untrusted import Malformed, Node, parse_json, read_text


@dataclass(frozen=True)
class Record:
    """A kernel: what the user named, its modules, by what (``option`` or ``inventory``), and its folder.

    ``lab`` is a digest of the inventory whose hosts are up, or empty while they are not.
    """

    spec: str
    modules: str
    chosen_by: str
    kernel: str
    lab: str


def write_record(paths: LabPaths, record: Record) -> None:
    """Write the record of a lab."""
    write_private(paths.column, json.dumps(asdict(record)))


def read_record(paths: LabPaths) -> Record | None:
    """Return the record of a lab, or None if it is not up on another kernel, or the file is damaged."""
    try:
        document = Node(parse_json(read_text(paths.column)))
        return Record(*(document[field.name].text() for field in fields(Record)))
    except Malformed:
        return None
