"""Findings, and the protocol of the rules that make them. Pure.

A rule is a function of a `PairReading`. Each module of `mptcp_lab/doctor/rules` has a tuple ``RULES``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Self, TypeVar

from mptcp_lab.doctor.readings import PairReading, to_document
from mptcp_lab.probe.shapes import Misshapen, read_as, read_fields

Word = TypeVar("Word", bound=StrEnum)


class Severity(StrEnum):
    """How bad a finding is: no MPTCP or no connection; a path or service lost; a risk or a waste."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"

    @classmethod
    def from_answer(cls, document: Any) -> Severity:
        """Parse a severity's word."""
        return _parse(cls, document)


class Confidence(StrEnum):
    """How sure a finding is: it was seen happening; all that was seen fits; one explanation of several."""

    CERTAIN = "certain"
    LIKELY = "likely"
    POSSIBLE = "possible"

    @classmethod
    def from_answer(cls, document: Any) -> Confidence:
        """Parse a confidence's word."""
        return _parse(cls, document)


def _parse(kind: type[Word], document: Any) -> Word:
    try:
        return kind(read_as(str, document))
    except ValueError:
        raise Misshapen(f"{document!r} is none of {', '.join(each.value for each in kind)}") from None


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    ``rule`` is its rule's name, ``host`` the user's name of the host to repair. ``what`` and ``why`` are one
    sentence each: what is wrong, and why it matters. ``fix`` is the exact command that repairs it now, run as
    root on the host, and ``persistent`` the one that keeps it after a reboot; "" where there is none.
    ``evidence`` has the readings that show it. ``follows_from`` names rules: where one of them has a finding,
    this one is a consequence, and is shown folded below it. ``folded`` holds such consequences (`fold`).
    """

    rule: str
    severity: Severity
    host: str
    what: str
    why: str
    fix: str = ""
    persistent: str = ""
    confidence: Confidence = Confidence.CERTAIN
    evidence: tuple[str, ...] = ()
    follows_from: tuple[str, ...] = ()
    folded: tuple[Finding, ...] = ()

    @classmethod
    def from_answer(cls, document: Any) -> Self:
        """Parse a finding's document; the type contains itself, so that it needs a parser of its own."""
        return read_fields(cls, read_as(dict, document))


@dataclass(frozen=True)
class Rule:
    """A pitfall: ``name`` in kebab-case, ``pitfall`` a sentence for the documentation's table (Markdown).

    ``find`` returns the findings of a reading; it uses no other input. ``advice`` is what to do, for the same
    table.
    """

    name: str
    pitfall: str
    find: Callable[[PairReading], Iterable[Finding]]
    advice: str = ""


_SEVERITY_ORDER = {each: number for number, each in enumerate(Severity)}
_CONFIDENCE_ORDER = {each: number for number, each in enumerate(Confidence)}


def find_all(rules: Iterable[Rule], reading: PairReading) -> tuple[Finding, ...]:
    """Return the findings of all rules, worst first, each once, consequences folded into their causes."""
    found = [finding for rule in rules for finding in rule.find(reading)]
    return fold(unite(dict.fromkeys(found)))


def unite(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings with those of one rule about one host as one: one fault often hits several addresses.

    The first one's sentences stay. What the others found is evidence; the commands of all are run in turn.
    """
    groups: dict[tuple[str, str], list[Finding]] = {}
    for each in findings:
        groups.setdefault((each.rule, each.host), []).append(each)
    return [group[0] if len(group) == 1 else _unite(group) for group in groups.values()]


def _unite(group: list[Finding]) -> Finding:
    """Return one finding for several of the same rule and host."""
    first = group[0]
    more = [each.what for each in group[1:]] + [line for each in group[1:] for line in each.evidence]
    return replace(
        first,
        fix=" && ".join(dict.fromkeys(each.fix for each in group if each.fix)),
        persistent=" && ".join(dict.fromkeys(each.persistent for each in group if each.persistent)),
        evidence=tuple(dict.fromkeys((*first.evidence, *more))),
    )


def fold(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return findings worst first; one that follows from another is in the ``folded`` of the worst such one.

    A chain of consequences ends up below its first cause. Of causes that name one another, the worst stays.
    """
    ordered = sorted(findings, key=rank)
    causes = [finding for finding in ordered if _root(finding, ordered) is finding]
    below: dict[int, list[Finding]] = {}
    for finding in ordered:
        root = _root(finding, ordered)
        if root is not finding:
            below.setdefault(id(root), []).append(finding)
    return tuple(replace(cause, folded=tuple(below.get(id(cause), ()))) for cause in causes)


def rank(finding: Finding) -> tuple[int, int]:
    """Return a sort key: worst first, then surest first."""
    return _SEVERITY_ORDER[finding.severity], _CONFIDENCE_ORDER[finding.confidence]


def _root(finding: Finding, findings: list[Finding]) -> Finding:
    """Return the first cause of a finding: itself, if it follows from none that was found."""
    seen: list[Finding] = []
    while True:
        if any(finding is each for each in seen):
            return min(seen, key=findings.index)
        seen.append(finding)
        above = [each for each in findings if each.rule in finding.follows_from and each.rule != finding.rule]
        if not above:
            return finding
        finding = above[0]


def to_json(findings: Iterable[Finding]) -> list[Any]:
    """Return findings as JSON can hold them."""
    return [to_document(each) for each in findings]


def from_json(document: Any) -> tuple[Finding, ...]:
    """Return the findings that `to_json` wrote; raise `Misshapen` for anything else."""
    return read_as(tuple[Finding, ...], document)
