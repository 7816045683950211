"""Compare the catalogue with the sub-tests of selftests and packetdrill; render docs/coverage.md."""

from __future__ import annotations

import textwrap
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mptcp_lab.catalogue import claims
from mptcp_lab.catalogue.markdown import format_row

FILES = ("selftests", "packetdrill")
STATES = ("covered", "partly", "open", "not for us")
#: Why no claim has to find what a sub-test is about besides.
BESIDES = "only programs on one host see it"
_FOLDER = Path(__file__).parent

INTRODUCTION = """\
# Coverage of the field's own tests

<!-- Rendered from mptcp_lab/catalogue/{selftests,packetdrill}.toml by
`python -m mptcp_lab.catalogue coverage > docs/coverage.md`. -->

The kernel has selftests for MPTCP, and packetdrill has scripts for it. This page lists them by
name, with the claims of [the catalogue](catalogue.md) that cover each. A claim covers a sub-test if
a fault that the sub-test finds also fails the claim's checks. The code of the selftests was read
for this, and of most packetdrill scripts the name only. None of them was run.

| state | means |
| --- | --- |
| covered | the claims find what the sub-test finds; the last column names what only one host sees of it |
| partly | the claims find it except for what the last column names |
| open | no claim finds it, and an operator would notice |
| not for us | no claim has to find it, for the reason in the last column |

The names of the sub-tests were read from stored copies of the sources, whose commits are given with
each suite. Newer kernels can have more.
"""


@dataclass(frozen=True)
class UpstreamTest:
    """One sub-test of a suite: the claims that cover it (`by`), and what they leave out.

    What an operator would notice is `missing`; what only programs on one host see is `besides`. A sub-test
    without claims has either `open`, the gap that no claim covers, or `not_for_us`, which gives the reason
    why no claim has to.
    """

    name: str
    by: tuple[str, ...] = ()
    missing: str = ""
    besides: str = ""
    open: str = ""
    not_for_us: str = ""

    @property
    def state(self) -> str:
        """Return one of `STATES`."""
        if self.by:
            return "partly" if self.missing else "covered"
        return "open" if self.open else "not for us"

    @property
    def note(self) -> str:
        """Return what is missing, or why no claim covers the sub-test."""
        aside = f"it is also about {self.besides}: {BESIDES}" if self.besides else ""
        return self.missing or aside or self.open or self.not_for_us


@dataclass(frozen=True)
class Suite:
    """The sub-tests of one script, or of one folder of scripts, and where their names were read.

    `unnamed` counts further sub-tests whose names were not at hand.
    """

    name: str
    title: str
    source: str
    tests: tuple[UpstreamTest, ...]
    unnamed: int = 0

    def counts(self) -> Counter[str]:
        """Return the number of sub-tests in each state."""
        return Counter(test.state for test in self.tests)


@cache
def suites() -> tuple[Suite, ...]:
    """Return every suite, in the order of the files."""
    documents = [tomllib.loads((_FOLDER / f"{name}.toml").read_text(encoding="utf-8")) for name in FILES]
    reasons = {key: text for document in documents for key, text in document.get("reasons", {}).items()}
    return tuple(
        Suite(
            name=entry["name"],
            title=entry["title"],
            source=entry["source"],
            tests=tuple(_test(test, reasons) for test in entry["tests"]),
            unnamed=entry.get("unnamed", 0),
        )
        for document in documents
        for entry in document["suite"]
    )


def render() -> str:
    """Return the content of docs/coverage.md."""
    counted = "\n".join(_counts())
    head, _, rest = INTRODUCTION.partition("\nThe kernel has")
    parts = [head, counted, f"\nThe kernel has{rest}"]
    parts += ["\n".join(_suite(suite)) for suite in suites()]
    return "\n".join([*parts, *_only_here(), ""])


def claims_only_here() -> list[str]:
    """Return the ids of the claims that no other suite has a sub-test for, in the catalogue's order.

    A row of RFC 8684 is in another suite too if the catalogue names one (`Claim.upstream`).
    """
    named = {claim for suite in suites() for test in suite.tests for claim in test.by}
    return [claim.id for claim in claims().values() if claim.id not in named and not claim.upstream]


def _test(entry: dict[str, Any], reasons: dict[str, str]) -> UpstreamTest:
    by = tuple(str(claim) for claim in entry.get("by", ()))
    reason = reasons[entry["not_for_us"]] if "not_for_us" in entry else ""
    return UpstreamTest(**{**entry, "by": by, "not_for_us": reason})


def _counts() -> Iterator[str]:
    yield format_row("suite", "sub-tests", *STATES)
    yield format_row(*["---"] * (2 + len(STATES)))
    total: Counter[str] = Counter()
    for suite in suites():
        found = suite.counts()
        total += found
        yield format_row(suite.name, str(len(suite.tests)), *(str(found[state]) for state in STATES))
    yield format_row("all", str(total.total()), *(str(total[state]) for state in STATES))
    for suite in (each for each in suites() if each.unnamed):
        yield f"\n{suite.name} has {suite.unnamed} more, whose names were not at hand: they are not counted."


def _suite(suite: Suite) -> Iterator[str]:
    yield f"## {suite.name}\n"
    for sentence in (f"{suite.title}.", f"Names from: {suite.source}."):
        yield textwrap.fill(sentence, 100, break_long_words=False, break_on_hyphens=False) + "\n"
    yield format_row("sub-test", "state", "claims", "missing, or why not")
    yield format_row(*["---"] * 4)
    for test in suite.tests:
        yield format_row(f"`{test.name}`", test.state, ", ".join(test.by), test.note)
    yield ""


def _only_here() -> Iterator[str]:
    yield "## What those suites do not have\n"
    yield "Claims that no sub-test above is about. Rows of RFC 8684 for which the catalogue names one of"
    yield "the suites are left out.\n"
    yield format_row("claim", "text")
    yield format_row("---", "---")
    for each in claims_only_here():
        yield format_row(each, claims()[each].text)
