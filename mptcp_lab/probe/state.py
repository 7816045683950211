"""Compare two network states of a host."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

NetworkState = Mapping[str, Any]
SHOWN = 200


def changes(before: NetworkState, after: NetworkState) -> list[str]:
    """Return the differences between two states, one line each; empty if the states are equal.

    The set of neighbours that are being resolved (``resolving``) is not compared.
    """
    found: list[str] = []
    for part in sorted({*before, *after} - {"resolving"}):
        found += _compare(part, before.get(part), after.get(part))
    return found


def _compare(name: str, old: Any, new: Any) -> list[str]:
    if old == new:
        return []
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return [
            line
            for key in sorted({*old, *new})
            for line in _compare(f"{name}.{key}", old.get(key), new.get(key))
        ]
    if isinstance(old, list) and isinstance(new, list):
        return _compare_lists(name, old, new)
    return [f"{name}: was {_show(old)}, is {_show(new)}"]


def _compare_lists(name: str, old: list[Any], new: list[Any]) -> list[str]:
    """Return the removed and the added entries of a list; links are compared entry by entry, by name."""
    if all(isinstance(entry, Mapping) and isinstance(entry.get("ifname"), str) for entry in [*old, *new]):
        by_name = [{entry["ifname"]: entry for entry in entries} for entries in (old, new)]
        return _compare(name, *by_name)
    left, right = Counter(map(_key, old)), Counter(map(_key, new))
    gone = [f"{name}: gone: {_show(json.loads(key))}" for key in (left - right).elements()]
    came = [f"{name}: new: {_show(json.loads(key))}" for key in (right - left).elements()]
    # The order of equal entries matters only for policy rules and nftables rules.
    return gone + came or ([f"{name}: order changed"] if name.startswith(("nft", "rules")) else [])


def _key(entry: Any) -> str:
    return json.dumps(entry, sort_keys=True)


def _show(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, Mapping) and all(
        not isinstance(item, Mapping | list) or not item for item in value.values()
    ):
        text = " ".join(f"{key}={item}" for key, item in value.items() if item not in ([], {}))
    else:
        text = json.dumps(value) if not isinstance(value, str) else value
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."
