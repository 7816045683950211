"""Parse and check the JSON output of tools: ``ip -json``, ``tc -json``, ``nft -j`` and QMP.

The output differs from the manuals in places: ``ip -json link show type bridge`` prints ``[{}]`` if module
bridge is not loaded, and iproute2 prints an empty object for each entry that a filter excludes.
"""

from __future__ import annotations

import json
from typing import Any

from mptcp_lab.errors import LabError

#: Maximum length of the output that an error message quotes.
QUOTED_MAX_CHARACTERS = 80


def parse(text: str, tool: str) -> Any:
    """Return the JSON document that a tool printed; raise `LabError`, with the tool's name, if it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise LabError(f"`{tool}` printed no JSON: {_quote(text)}", "", f"run `{tool}` yourself") from None


def records(text: str, tool: str, *required: str) -> list[dict[str, Any]]:
    """Return the objects of the list that a tool printed, without empty objects; no output is an empty list.

    Raises:
        LabError: the output is not a list of objects, or an object lacks a `required` field.
    """
    document = parse(text, tool) if text.strip() else []
    if not isinstance(document, list) or not all(isinstance(entry, dict) for entry in document):
        raise LabError(f"`{tool}` printed no list of objects: {_quote(text)}", "", f"run `{tool}` yourself")
    found: list[dict[str, Any]] = [entry for entry in document if entry]
    for entry in found:
        if lacking := [field for field in required if field not in entry]:
            raise LabError(
                f"`{tool}` printed an entry without {', '.join(lacking)}: {_quote(json.dumps(entry))}",
                "",
                f"run `{tool}` yourself",
            )
    return found


def member(document: Any, tool: str, *path: str) -> Any:
    """Return a field of a tool's output by its path of keys; raise `LabError` if it is missing."""
    found = document
    for field in path:
        if not isinstance(found, dict) or field not in found:
            raise LabError(
                f"`{tool}` answered without {'.'.join(path)}: {_quote(json.dumps(document))}",
                "",
                f"run `{tool}` yourself",
            )
        found = found[field]
    return found


def _quote(text: str) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= QUOTED_MAX_CHARACTERS else f"{text[:QUOTED_MAX_CHARACTERS]}...")
