"""Load the conformance catalogue: the claims of the suite, with their levels and sources."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from mptcp_lab.catalogue.level import Level

FAMILIES = ("state", "direct", "proxy", "split", "gateway", "relay", "security", "rfc8684")
_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Claim:
    """One claim of the catalogue.

    Only the rows of RFC 8684 have ``alias`` (R01 to R61), ``methods``, ``upstream`` and ``waves``.
    ``methods`` lists how the row is observed: passive capture, counters, packets changed on the path, or an
    injecting peer. ``upstream`` names the kernel's tests that cover it. ``waves`` is the order in which
    checks are written.
    """

    id: str
    family: str
    level: Level
    text: str
    source: str
    observed_by: str
    alias: str = ""
    methods: tuple[str, ...] = ()
    upstream: tuple[str, ...] = ()
    waves: tuple[int, ...] = ()

    def answers_to(self, pattern: str) -> bool:
        """Return whether an id, an alias or a glob such as ``PROXY-*`` matches this claim."""
        names = (self.id, self.alias) if self.alias else (self.id,)
        return any(name == pattern or fnmatchcase(name, pattern) for name in names)


@dataclass(frozen=True)
class Family:
    """The claims about one scenario, or about one document."""

    name: str
    title: str
    note: str
    claims: tuple[Claim, ...]


@dataclass(frozen=True)
class Correction:
    """A claim that a real kernel does not keep: its old text (``was``) and the observed behaviour (``seen``).

    ``evidence`` says by what the behaviour is known, and how checks treat it. ``sentence`` is the short form
    for reports that show the deviation. A check that accepts the deviation refers to it by ``name``.
    ``since`` is the first kernel release with it, ``until`` the first without it; it is empty while no
    release is known to be without it.
    """

    claim: str
    kernel: str
    was: str
    seen: str
    evidence: str = ""
    sentence: str = ""
    name: str = ""
    since: str = ""
    until: str = ""

    def is_about(self, release: str) -> bool:
        """Return whether a kernel release, such as 6.1.0-56-amd64, is from `since` on and before `until`."""
        version = _version(release)
        if not (self.since and version) or version < _version(self.since):
            return False
        return not self.until or version < _version(self.until)


@dataclass(frozen=True)
class Rewording:
    """A row whose text was corrected because it differed from RFC 8684: old text, new text and reason."""

    claim: str
    was: str
    now: str
    why: str


@cache
def families() -> tuple[Family, ...]:
    """Return every family with its claims, in the catalogue's order."""
    return tuple(family(name) for name in FAMILIES)


@cache
def family(name: str) -> Family:
    """Return one family by its lower-case name; only its file is read."""
    document = _read(name)
    return Family(
        name=name,
        title=document["title"],
        note=document.get("note", ""),
        claims=tuple(_claim(name, entry) for entry in document["claim"]),
    )


@cache
def claims() -> dict[str, Claim]:
    """Return every claim by its id, in the catalogue's order."""
    return {claim.id: claim for each in families() for claim in each.claims}


def find(name: str) -> Claim:
    """Return the claim with that id or alias; raise KeyError if there is none."""
    for claim in claims().values():
        if name in (claim.id, claim.alias):
            return claim
    raise KeyError(name)


@cache
def corrections() -> tuple[Correction, ...]:
    """Return the corrections, in the order of their file."""
    return tuple(Correction(**entry) for entry in _read("corrections").get("correction", ()))


def rewordings() -> tuple[Rewording, ...]:
    """Return the rewordings of rows after comparison with the RFC's text, in the order of their file."""
    return tuple(Rewording(**entry) for entry in _read("corrections").get("rewording", ()))


def _version(release: str) -> tuple[int, ...]:
    """Return major and minor number of a kernel release; empty if it does not begin with them."""
    found = re.match(r"(\d+)\.(\d+)", release)
    return (int(found[1]), int(found[2])) if found else ()


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads(_FOLDER.joinpath(f"{name}.toml").read_text(encoding="utf-8"))


def _claim(family: str, entry: dict[str, Any]) -> Claim:
    known: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in entry.items()}
    return Claim(**{**known, "family": family, "level": Level(entry["level"])})
