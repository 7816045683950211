"""Describe in ``result.json`` what made a run: the suite's revision, the lock, and what ran the hosts."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from mptcp_lab.text import shorten
from mptcp_lab.untrusted import Malformed, Node

COMMIT = re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64})?")
SHA256 = re.compile(r"(?:[0-9a-f]{64})?")


@dataclass(frozen=True)
class MadeBy:
    """The origin of a run; a text is empty, and ``edited`` None, where it is unknown or there is none.

    ``revision`` is the commit of mptcp-lab, ``edited`` whether its files differed from it, ``lock`` the
    SHA-256 of the lab.lock.yml in force. ``engine`` ran the hosts: systemd-nspawn, qemu or hardware.
    ``column`` is the name that ``--column`` gave the run. ``patience`` is the factor of all waits.
    """

    revision: str = ""
    edited: bool | None = None
    lock: str = ""
    engine: str = ""
    column: str = ""
    patience: float = 1.0


def to_json(made_by: MadeBy) -> dict[str, Any]:
    """Return the description as a JSON object."""
    return asdict(made_by)


def from_json(node: Node) -> MadeBy:
    """Return the description that a document has; raise `Malformed` for a wrong shape."""
    node.check_keys("revision", "edited", "lock", "engine", "column", "patience")
    return MadeBy(
        revision=_hash(node["revision"], COMMIT),
        edited=None if node["edited"].value is None else node["edited"].flag(),
        lock=_hash(node["lock"], SHA256),
        engine=node["engine"].text(),
        column=node["column"].text(),
        patience=node["patience"].number(1.0),
    )


def _hash(node: Node, form: re.Pattern[str]) -> str:
    text = node.text()
    if not form.fullmatch(text):
        raise Malformed(f"{node.place}: {shorten(text)} is not a hash")
    return text
