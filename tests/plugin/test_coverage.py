"""Test the comparison with the sub-tests of the kernel's selftests and packetdrill, and its page."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from mptcp_lab import catalogue
from mptcp_lab.catalogue import coverage
from mptcp_lab.catalogue.coverage import Suite, UpstreamTest, suites

ROOT = Path(__file__).resolve().parents[2]
EVERY = [pytest.param(suite, id=suite.name) for suite in suites()]


def test_the_page_is_rendered_from_the_data() -> None:
    page = (ROOT / "docs" / "coverage.md").read_text(encoding="utf-8")
    assert page == coverage.render(), "run: python -m mptcp_lab.catalogue coverage > docs/coverage.md"


@pytest.mark.parametrize("suite", EVERY)
def test_claims_that_are_named_exist(suite: Suite) -> None:
    unknown = {each for test in suite.tests for each in test.by if each not in catalogue.claims()}
    assert not unknown, f"{suite.name} names claims that are not in the catalogue: {sorted(unknown)}"


@pytest.mark.parametrize("suite", EVERY)
def test_every_line_has_a_claim_or_a_reason(suite: Suite) -> None:
    """A line has just one of `by`, `open` and `not_for_us`; `missing` or `besides` comes only beside `by`."""
    wrong = [
        test.name
        for test in suite.tests
        if sum(map(bool, (test.by, test.open, test.not_for_us))) != 1
        or (bool(test.missing) + bool(test.besides) > bool(test.by))
    ]
    assert not wrong, f"{suite.name}: no claim and no reason, or both: {wrong}"


@pytest.mark.parametrize("suite", EVERY)
def test_names_are_unique(suite: Suite) -> None:
    twice = [name for name, times in Counter(test.name for test in suite.tests).items() if times > 1]
    assert not twice, f"{suite.name} has names twice: {twice}"


@pytest.mark.parametrize("suite", EVERY)
def test_cells_have_two_sentences_at_most(suite: Suite) -> None:
    long = [test.name for test in suite.tests if test.note.count(". ") > 1]
    assert not long, f"{suite.name}: more than two sentences: {long}"


def test_every_suite_says_where_its_names_are_from() -> None:
    assert all("at commit" in suite.source or "commits" in suite.source for suite in suites())


def test_every_reason_is_used() -> None:
    folder = Path(coverage.__file__).parent
    documents = [tomllib.loads((folder / f"{name}.toml").read_text("utf-8")) for name in coverage.FILES]
    given = {key for document in documents for key in document.get("reasons", {})}
    used = {
        test["not_for_us"]
        for document in documents
        for suite in document["suite"]
        for test in suite["tests"]
        if "not_for_us" in test
    }
    assert used == given


@pytest.mark.parametrize(
    ("test", "state", "note"),
    [
        (UpstreamTest("a", by=("DIRECT-1",)), "covered", ""),
        (UpstreamTest("a", by=("DIRECT-1",), missing="IPv6"), "partly", "IPv6"),
        (
            UpstreamTest("a", by=("DIRECT-1",), besides="a form"),
            "covered",
            f"it is also about a form: {coverage.BESIDES}",
        ),
        (UpstreamTest("a", open="No claim does it."), "open", "No claim does it."),
        (UpstreamTest("a", not_for_us="setup"), "not for us", "setup"),
    ],
    ids=["covered", "partly", "covered-besides", "open", "not-for-us"],
)
def test_state(test: UpstreamTest, state: str, note: str) -> None:
    assert (test.state, test.note) == (state, note)


def test_counts_add_up() -> None:
    for suite in suites():
        assert suite.counts().total() == len(suite.tests)


def test_claims_of_this_suite_alone_are_listed() -> None:
    """A claim is named by a sub-test or by the catalogue as covered upstream, or it is listed."""
    listed = set(coverage.claims_only_here())
    named = {each for suite in suites() for test in suite.tests for each in test.by}
    upstream = {each.id for each in catalogue.claims().values() if each.upstream}
    assert listed.isdisjoint(named | upstream)
    assert listed | named | upstream == set(catalogue.claims())


def test_another_argument_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mptcp_lab.catalogue", "covrage"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 1
    assert "the only argument is `coverage`" in done.stderr
