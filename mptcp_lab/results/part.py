"""Pass the checks of a part of a run on to the run that it belongs to, as JSON lines in a file.

A line is written when a check has ended, so that the other run can show it at once, and none is lost if the
part is killed. The last line says how the part ended.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mptcp_lab.results.causes import Cause
from mptcp_lab.results.result import Check, check_from_json, check_to_json
from mptcp_lab.results.verdict import Ending
from mptcp_lab.untrusted import Node, parse_json

#: The name by which a check of a line refers to the cause in the same line.
CAUSE = "cause"


@dataclass(frozen=True)
class PartEnd:
    """How a part ended, why, and what to do next; ``facts`` maps each host to what was found out about it."""

    ending: Ending
    sentence: str = ""
    next_step: str = ""
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def append(path: Path, entry: Check | PartEnd) -> None:
    """Append a line; raise `OSError` if it cannot be written."""
    if isinstance(entry, PartEnd):
        line: dict[str, Any] = {"end": asdict(entry)}
    else:
        names = {entry.cause: CAUSE} if entry.cause else {}
        cause = asdict(entry.cause) if entry.cause else None
        line = {"check": check_to_json(entry, names), "cause": cause}
    with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")


class PartReader:
    """Reads the lines of a part while they are written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> Iterator[Check | PartEnd]:
        """Yield what was written since the last call; an incomplete line is left for the next call.

        Raises:
            Malformed: a line has a wrong shape.
        """
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                lines = file.read().splitlines(keepends=True)
        except FileNotFoundError:
            return
        for line in lines:
            if not line.endswith(b"\n"):
                return
            self._offset += len(line)
            yield _parse(line.decode())


def _parse(line: str) -> Check | PartEnd:
    node = Node(parse_json(line))
    if "end" in node.mapping():
        end = node["end"]
        facts = {host: facts.mapping() for host, facts in end["facts"].members()}
        return PartEnd(end["ending"].choice(Ending), end["sentence"].text(), end["next_step"].text(), facts)
    cause = node["cause"]
    causes = {}
    if cause.value is not None:
        causes[CAUSE] = Cause(cause["what"].text(), cause["where"].text(), cause["next_step"].text())
    return check_from_json(node["check"], causes)
