from __future__ import annotations

import re
from pathlib import Path

import pytest

from mptcp_lab import catalogue
from mptcp_lab.catalogue import Level, markdown
from mptcp_lab.catalogue.kernels import parse

DOCS = Path(__file__).resolve().parents[2] / "docs"
COUNTS = {"direct": 14, "proxy": 12, "split": 8, "gateway": 5, "relay": 8, "security": 7, "rfc8684": 61}


def test_the_page_is_rendered_from_the_data() -> None:
    page = (DOCS / "catalogue.md").read_text(encoding="utf-8")
    assert page == markdown.render(), "run: python -m mptcp_lab.catalogue > docs/catalogue.md"


@pytest.mark.parametrize(("family", "count"), COUNTS.items())
def test_every_claim_is_there(family: str, count: int) -> None:
    found = next(f for f in catalogue.families() if f.name == family)
    assert len(found.claims) >= count


def test_ids_are_unique_and_named_after_their_family() -> None:
    every = [claim for family in catalogue.families() for claim in family.claims]
    assert len(catalogue.claims()) == len(every)
    for claim in every:
        assert re.fullmatch(rf"{claim.family.upper()}-[0-9.AB]*/?\d+", claim.id)
        assert claim.text and claim.source and claim.observed_by


def test_rfc_rows_keep_their_aliases_and_name_their_section() -> None:
    rows = next(f for f in catalogue.families() if f.name == "rfc8684").claims
    assert [row.alias for row in rows] == [f"R{n:02}" for n in range(1, 62)]
    for row in rows:
        section = row.id.removeprefix("RFC8684-").partition("/")[0]
        assert re.search(rf"(sections?|appendix) .*\b{re.escape(section)}\b", row.source), row
        assert row.waves and set(row.waves) <= {1, 2, 3}
        assert row.methods and row.level in (Level.MUST, Level.SHOULD)


def test_a_claim_is_found_by_id_and_by_alias() -> None:
    assert catalogue.find("R20").id == "RFC8684-3.2/4"
    assert catalogue.find("DIRECT-3").level is Level.MUST
    with pytest.raises(KeyError):
        catalogue.find("DIRECT-99")


def test_a_glob_means_claims_and_their_aliases() -> None:
    proxy = catalogue.find("PROXY-1")
    assert proxy.answers_to("PROXY-*")
    assert not proxy.answers_to("PROXY-1?")
    assert catalogue.find("R01").answers_to("R0*")


def test_corrections_name_claims() -> None:
    for correction in catalogue.corrections():
        assert correction.claim in catalogue.claims()


def test_rewordings_name_rows_of_the_rfc() -> None:
    for reworded in catalogue.rewordings():
        assert catalogue.claims()[reworded.claim].alias
        assert reworded.was != reworded.now
        assert reworded.why


def test_a_cell_of_the_page_has_at_most_two_sentences_and_a_paragraph_five() -> None:
    cells = [
        c for claim in catalogue.claims().values() for c in (claim.text, claim.observed_by, claim.source)
    ]
    cells += [c for each in catalogue.corrections() for c in (each.was, each.seen)]
    cells += [c for each in catalogue.rewordings() for c in (each.was, each.now, each.why)]
    assert [cell for cell in cells if sentences(cell) > 2] == []
    paragraphs = [each.evidence for each in catalogue.corrections() if sentences(each.evidence) > 5]
    assert paragraphs == []


def sentences(text: str) -> int:
    """Count the sentences of a text: an end mark, a space, and a capital letter or a program's name."""
    ends = re.findall(r"[.!?]\)?\s+(?=[A-Z`]|haproxy|nginx|net/)", text.strip())
    return len(ends) + 1


def test_what_is_observed_is_said_in_whole_sentences() -> None:
    wrong = [
        each.id for each in catalogue.claims().values() if not re.fullmatch(r"[A-Z].* .*\.", each.observed_by)
    ]
    assert wrong == []


def test_evidence_is_a_paragraph_below_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    found = (
        catalogue.Correction(
            "DIRECT-5", "6.18.44", "it was so", "it is not", ">=6.18", evidence="Seen\ntwice."
        ),
    )
    monkeypatch.setattr(markdown, "corrections", lambda: found)
    assert "\n\n**DIRECT-5**, 6.18.44: Seen twice.\n\n" in markdown.render()


def test_a_correction_is_a_row_and_its_bars_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    found = (catalogue.Correction("DIRECT-5", "6.18.44", "it was so", "a|b", ">=6.18"),)
    monkeypatch.setattr(markdown, "corrections", lambda: found)
    assert "| DIRECT-5 | `>=6.18`, from runs | 6.18.44 | it was so | a\\|b |" in markdown.render()


@pytest.mark.parametrize(
    ("kernels", "seen_by", "bounds_by", "shown"),
    [
        (">=6.12,<6.18", "source", "source", "`>=6.12,<6.18`, from source"),
        (">=5.15,<6.3", "run", "source", "`>=5.15,<6.3`, seen in runs, bounds from source"),
        ("any", "run", "run", "any: the engine's"),
    ],
)
def test_a_correction_tells_its_kernels_and_how_they_are_known(
    kernels: str, seen_by: str, bounds_by: str, shown: str
) -> None:
    correction = catalogue.Correction("DIRECT-5", "6.18.44", "a", "b", kernels, seen_by, bounds_by)
    assert markdown.format_kernels(correction) == shown


def test_every_correction_has_kernels_that_can_be_compared() -> None:
    for each in catalogue.corrections():
        bounds = parse(each.kernels)
        assert bounds is None or not bounds.end or bounds.first < bounds.end, each
        assert {each.seen_by, each.bounds_by} <= {"run", "source"}, each
        if each.seen_by == "source":
            assert each.bounds_by == "source", each
        elif bounds and re.match(r"\d+\.\d+", each.kernel):
            assert bounds.has(each.kernel), f"{each.kernel} is outside {each.kernels}"


@pytest.mark.parametrize(
    ("release", "inside"),
    [("6.2.16", True), ("5.15.0-1-amd64", True), ("6.3.0", False), ("5.14.21", False), ("generic", False)],
)
def test_a_range_begins_with_its_first_release_and_ends_before_the_other(release: str, inside: bool) -> None:
    bounds = parse(">=5.15,<6.3")
    assert bounds is not None
    assert bounds.has(release) is inside


@pytest.mark.parametrize("text", ["", "6.18", ">6.18", ">=6.18,<=7.0", ">= 6.18", "<6.3"])
def test_other_words_for_a_range_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a range of kernels"):
        parse(text)
