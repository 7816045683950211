"""Load the conformance catalogue: the claims of the suite, with their levels and sources."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from mptcp_lab.catalogue import kernels
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

    ``kernel`` names where it was observed. ``kernels`` is the range of releases that do it, or ``any`` for
    the behaviour of an engine. ``seen_by`` and ``bounds_by`` state how each is known:
    by a ``run`` or from the ``source`` of kernels. ``breached`` states that these kernels breach a SHOULD, so
    that a breach there is a known deviation. ``evidence`` says by what the behaviour is known, and how checks
    treat it. ``sentence`` is the short form for reports that show the deviation. A check that accepts the
    deviation refers to it by ``name``.
    """

    claim: str
    kernel: str
    was: str
    seen: str
    kernels: str
    seen_by: str = "run"
    bounds_by: str = "run"
    evidence: str = ""
    sentence: str = ""
    name: str = ""
    breached: bool = False

    @property
    def first_without(self) -> str:
        """Return the first kernel release that is known to be without the behaviour; empty if none is."""
        return self.kernels.partition(",<")[2]

    def is_about(self, release: str) -> bool:
        """Return whether the behaviour of a kernel release, such as 6.1.0-56-amd64, is described."""
        bounds = kernels.parse(self.kernels)
        return bounds is not None and bounds.has(release)


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


def find_breach(claim: str, kernel_releases: Iterable[str]) -> Correction | None:
    """Return the correction by which one of these kernels is known to breach a claim, or None."""
    for each in corrections():
        if each.breached and each.claim == claim and any(map(each.is_about, kernel_releases)):
            return each
    return None


def rewordings() -> tuple[Rewording, ...]:
    """Return the rewordings of rows after comparison with the RFC's text, in the order of their file."""
    return tuple(Rewording(**entry) for entry in _read("corrections").get("rewording", ()))


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads(_FOLDER.joinpath(f"{name}.toml").read_text(encoding="utf-8"))


def _claim(family: str, entry: dict[str, Any]) -> Claim:
    known: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in entry.items()}
    return Claim(**{**known, "family": family, "level": Level(entry["level"])})
