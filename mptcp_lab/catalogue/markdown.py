"""Render the catalogue as a Markdown page."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

from mptcp_lab.catalogue import Claim, Correction, Family, Rewording, corrections, families, rewordings
from mptcp_lab.catalogue.kernels import ANY

INTRODUCTION = """\
# The conformance catalogue

<!-- Rendered from mptcp_lab/catalogue/*.toml by `python -m mptcp_lab.catalogue > docs/catalogue.md`. -->

This page lists what the suite checks. Every claim has a stable id, a level and a source, and describes
the observation; reports carry the same ids. A claim that is checked in several ways has a case
for each, named in square brackets: `PROXY-1[haproxy-preload]`.

| level | means |
| --- | --- |
| MUST | a breach is `fail` |
| SHOULD | a breach is `non-strict`, and `fail` under `--strict` |
| INFO | a measured figure, never a failure unless a limit is configured |

The founding document is the text that the project was created from, an analysis of MPTCP scenarios
(mptcp应用场景分析); its scenarios were sharpened by measurement.

[Coverage](coverage.md) compares the claims with the kernel's selftests and packetdrill's scripts.
"""

CORRECTIONS = (
    "Claims that turned out otherwise on real kernels. The column *kernels* has the releases that behave so,",
    "and how that is known: from runs, or from the source of kernels where no run has shown it. A range from",
    "a run begins with the oldest release of any run; older ones may behave in the same way.",
)


def render() -> str:
    """Return the content of docs/catalogue.md."""
    parts = [INTRODUCTION, *(_family(family) for family in families())]
    return "\n".join([*parts, _corrections(corrections()), _rewordings(rewordings())])


def _family(family: Family) -> str:
    lines = [f"## {family.name.upper()}: {family.title}", ""]
    if family.note:
        lines += [family.note, ""]
    lines += _table(family.claims) if not family.claims[0].alias else _rfc_table(family.claims)
    return "\n".join([*lines, ""])


def _table(claims: Iterable[Claim]) -> Iterator[str]:
    yield "| id | level | claim | observed by | source |"
    yield "| --- | --- | --- | --- | --- |"
    for c in claims:
        yield format_row(c.id, c.level, c.text, c.observed_by, c.source)


def _rfc_table(claims: Iterable[Claim]) -> Iterator[str]:
    yield "| id | alias | level | requirement | source | observed by | method | covered upstream by | wave |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for c in claims:
        waves = ", ".join(map(str, c.waves))
        methods, upstream = ", ".join(c.methods), ", ".join(c.upstream) or "nothing"
        source = c.source.removeprefix("RFC 8684 ")
        yield format_row(c.id, c.alias, c.level, c.text, source, c.observed_by, methods, upstream, waves)


def _corrections(found: tuple[Correction, ...]) -> str:
    lines = ["## Corrections", "", *CORRECTIONS, ""]
    rows = [format_row(c.claim, format_kernels(c), c.kernel, c.was, c.seen) for c in found]
    if rows:
        header = format_row("claim", "kernels", "observed on", "it said", "what is seen")
        lines += [header, format_row(*["---"] * 5), *rows]
    else:
        lines.append("None so far.")
    return "\n".join([*lines, "", *_evidence(found)])


def format_kernels(correction: Correction) -> str:
    """Return the range of kernels of a correction, and how it is known."""
    if correction.kernels == ANY:
        return "any: the engine's"
    if correction.seen_by == "source":
        known = "from source"
    elif correction.bounds_by == "source":
        known = "seen in runs, bounds from source"
    else:
        known = "from runs"
    return f"`{correction.kernels}`, {known}"


def _evidence(found: Iterable[Correction]) -> Iterator[str]:
    yield from ("### Evidence of the corrections", "", "By what each is known, and how checks treat it.", "")
    for c in found:
        if c.evidence:
            paragraph = " ".join(f"**{c.claim}**, {c.kernel}: {c.evidence}".split())
            yield textwrap.fill(paragraph, 100, break_long_words=False, break_on_hyphens=False)
            yield ""


def _rewordings(found: Iterable[Rewording]) -> str:
    lines = [
        "### Rows of RFC 8684, against its text",
        "",
        "What the first table said and the RFC does not.",
        "",
    ]
    lines += ["| claim | it said | it says | because |", "| --- | --- | --- | --- |"]
    return "\n".join([*lines, *(format_row(r.claim, r.was, r.now, r.why) for r in found), ""])


def format_row(*cells: str) -> str:
    """Return a row of a Markdown table."""
    lines = (" ".join(cell.split()).replace("|", "\\|") for cell in cells)
    return "| " + " | ".join(lines) + " |"
