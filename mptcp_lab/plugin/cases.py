"""Assign collected test functions to cases of claims."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from mptcp_lab import catalogue
from mptcp_lab.errors import Unsupported
from mptcp_lab.inventory import Lab
from mptcp_lab.inventory.requirement import Parameters, Requirement
from mptcp_lab.plugin.run import Case

MARKER = "claim"
FAST = "fast"
CASE = pytest.StashKey[Case]()
FIXTURES = pytest.StashKey[Mapping[str, Requirement]]()
#: A marker in a file of checks, with the claim's name where the name is written there.
WRITTEN = re.compile(r"""\bclaim\(\s*(?:(["'])([^"']*)\1)?""")


def claim(
    name: str, *, case: str = "", timing: bool = False, requires: Requirement | Sequence[Requirement] = ()
) -> pytest.MarkDecorator:
    """Mark a test function as the check of a claim.

    ``name`` is an id or an alias of the catalogue, which has level, text and source. ``case`` distinguishes
    two functions that check the same claim; parameters are distinguished without it. A ``timing`` check
    asserts on durations, or on scheduling on a busy machine: it is retried once after a failure, and both
    results are kept. ``requires`` lists requirements on the inventory in addition to those of the check's
    fixtures. If the inventory does not meet them, the check is unsupported, and ``--list`` prints the reason.
    """
    wanted = (requires,) if isinstance(requires, Requirement) else tuple(requires)
    return pytest.mark.claim(name, case=case, timing=timing, requires=wanted)


def mark_fast() -> pytest.MarkDecorator:
    """Mark the case that ``--fast`` prefers: it takes less time than the first one, and shows as much."""
    return pytest.mark.fast


def case_of(item: pytest.Item) -> Case | None:
    """Return the case that an item checks, or None for an ordinary test."""
    return item.stash.get(CASE, None)


def refuse(metafunc: pytest.Metafunc) -> None:
    """Refuse a check of an unknown claim, and a check that uses testinfra's ``host``.

    Raises:
        pytest.Collector.CollectError: the check is refused; pytest reports the sentence for the file.
    """
    where = metafunc.definition.nodeid
    marker = metafunc.definition.get_closest_marker(MARKER)
    if marker is not None and not _is_known(marker.args[0]):
        raise pytest.Collector.CollectError(
            f'{where}: claim "{marker.args[0]}" is not in the catalogue; add it to mptcp_lab/catalogue/'
        )
    if marker is not None and "_testinfra_host" in metafunc.fixturenames:
        raise pytest.Collector.CollectError(
            f"{where}: testinfra's fixture `host` has no access to the lab; use the suite's own fixtures"
        )


def _is_known(name: str) -> bool:
    try:
        catalogue.find(name)
    except KeyError:
        return False
    return True


def assign(items: Iterable[pytest.Item]) -> None:
    """Assign its case to each marked item.

    Raises:
        ValueError: two checks have the same case.
    """
    owners: dict[str, pytest.Item] = {}
    for item in items:
        marker = item.get_closest_marker(MARKER)
        if marker is None:
            continue
        case = _case(item, marker)
        if other := owners.get(case.name):
            raise ValueError(
                f"{item.nodeid} and {other.nodeid} are both case {case.name}; "
                'tell them apart with @claim(..., case="...")'
            )
        owners[case.name] = item
        item.stash[CASE] = case


def _case(item: pytest.Item, marker: pytest.Mark) -> Case:
    found = catalogue.find(marker.args[0])
    callspec = getattr(item, "callspec", None)
    parts = [marker.kwargs["case"], callspec.id if callspec else ""]
    case = "-".join(part for part in parts if part)
    return Case(found, f"{found.id}[{case}]" if case else found.id, marker.kwargs["timing"])


def requirements(item: pytest.Item) -> list[Requirement]:
    """Return a check's requirements on the inventory: those of its fixtures, then those of its marker."""
    marker = item.get_closest_marker(MARKER)
    by_fixture = item.config.stash.get(FIXTURES, {})
    names = set(getattr(item, "fixturenames", ()))
    found = [requirement for name, requirement in by_fixture.items() if name in names]
    return [*found, *(marker.kwargs["requires"] if marker else ())]


def parameters(item: pytest.Item) -> Parameters:
    """Return the parameters of a check and of its fixtures by name."""
    callspec = getattr(item, "callspec", None)
    return dict(callspec.params) if callspec else {}


def unmet_requirement(item: pytest.Item, lab: Lab) -> Unsupported | None:
    """Return the first unmet requirement of a check as an error, or None if the lab meets all."""
    given = parameters(item)
    reasons = (requirement.find_reason(lab, given) for requirement in requirements(item))
    return next((reason for reason in reasons if reason), None)


def select(config: pytest.Config, items: list[pytest.Item], lab: Lab | None) -> None:
    """Deselect items that ``--claim``, ``--family`` and ``--fast`` leave out, and then ordinary tests too."""
    patterns, families = config.option.claim, config.option.family
    if not patterns and not families and not config.option.fast:
        return
    kept = [item for item in items if _is_wanted(case_of(item), patterns, families)]
    if config.option.fast and lab:
        kept = one_per_claim(kept, lab)
    chosen = set(kept)
    gone = [item for item in items if item not in chosen]
    items[:] = kept
    config.hook.pytest_deselected(items=gone)


#: Characters of a glob that are not literal; a bracket begins a case.
WILDCARD = re.compile(r"[*?]")


def is_left_out(file: Path, config: pytest.Config) -> bool:
    """Return whether ``--claim`` and ``--family`` leave out all checks of a file, by the text of the file.

    Such a file need not be imported. A file that does not have the name of each claim in its text is not left
    out, nor is one that the command line names; ``--limit`` needs the figures of all checks.
    """
    option = config.option
    if not (option.claim or option.family) or option.limit or file.suffix != ".py":
        return False
    if any(Path(argument.partition("::")[0]).resolve() == file for argument in config.args):
        return False
    names = [name for _, name in WRITTEN.findall(file.read_text(errors="replace"))]
    if not names or not all(name and _is_known(name) for name in names):
        return False
    patterns = [re.split(r"\[", pattern)[0] for pattern in option.claim]
    return not any(_may_be_wanted(catalogue.find(name), patterns, option.family) for name in names)


def _may_be_wanted(found: catalogue.Claim, patterns: list[str], families: list[str]) -> bool:
    """Return whether a claim may have a case that is requested; the patterns are without their cases.

    A wildcard may stand for the end of the id and for the case, as in ``PROXY-5*preload*``.
    """
    if families and found.family not in families:
        return False
    return not patterns or any(
        found.answers_to(pattern)
        or (WILDCARD.search(pattern) and found.id.startswith(WILDCARD.split(pattern)[0]))
        for pattern in patterns
    )


def one_per_claim(items: Sequence[pytest.Item], lab: Lab) -> list[pytest.Item]:
    """Return one item of each claim; the first one if several rank equally.

    An item whose requirements the lab meets comes before one whose requirements it does not meet, and then an
    item marked by `mark_fast` before others.
    """
    best: dict[str, tuple[tuple[bool, bool], pytest.Item]] = {}
    for item in items:
        if case := case_of(item):
            rank = (
                unmet_requirement(item, lab) is None,
                item.get_closest_marker(FAST) is not None,
            )
            if case.claim.id not in best or rank > best[case.claim.id][0]:
                best[case.claim.id] = rank, item
    return [item for _, item in best.values()]


def order(items: list[pytest.Item]) -> None:
    """Sort checks by family in the catalogue's order: STATE first, because all scenarios depend on it."""

    def rank(item: pytest.Item) -> int:
        case = case_of(item)
        return catalogue.FAMILIES.index(case.claim.family) if case else -1

    items.sort(key=rank)


def asked_for(config: pytest.Config) -> list[catalogue.Claim]:
    """Return the catalogue's claims that ``--claim`` and ``--family`` request."""
    patterns = [pattern.partition("[")[0] for pattern in config.option.claim]
    families = config.option.family or catalogue.FAMILIES
    return [
        found
        for found in catalogue.claims().values()
        if found.family in families and (not patterns or any(found.answers_to(p) for p in patterns))
    ]


def _is_wanted(case: Case | None, patterns: list[str], families: list[str]) -> bool:
    if case is None or (families and case.claim.family not in families):
        return False
    # A bracket in a pattern begins a case, such as R01[direct-R01]; it is not a character class of a glob.
    return not patterns or any(
        _is_case(case.name, p) or ("[" not in p and case.claim.answers_to(p)) for p in patterns
    )


def _is_case(name: str, pattern: str) -> bool:
    """Return whether a case's name matches a glob in which brackets are literal; "ID[]" is the case "ID"."""
    return fnmatchcase(name, pattern.removesuffix("[]").replace("[", "[[]"))


def purpose(item: pytest.Item) -> str:
    """Return the first line of a check's docstring."""
    text = getattr(getattr(item, "obj", None), "__doc__", None) or ""
    return text.strip().partition("\n")[0]
