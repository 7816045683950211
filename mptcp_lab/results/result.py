"""The result of a run, ``result.json``: every report is a view of this document.

The schema is ``result.schema.json`` in this folder. ``SCHEMA`` is its version, which is raised whenever a
program written for the old version could misread the document. Documents of the versions in ``READABLE`` are
read: version 1 has no ``made_by``.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from mptcp_lab.catalogue import FAMILIES
from mptcp_lab.catalogue.level import Level
from mptcp_lab.files import write_synced
from mptcp_lab.results import made_by
from mptcp_lab.results.causes import Cause, SharedCause, group_by_cause
from mptcp_lab.results.made_by import MadeBy
from mptcp_lab.results.verdict import Ending, Outcome, Rules, Verdict, decide, exit_code
from mptcp_lab.text import shorten, to_one_line
from mptcp_lab.untrusted import Malformed, Node, parse_json, read_text

SCHEMA = 2
READABLE = (1, SCHEMA)
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
KINDS = ("document", "text", "pcap", "timeline", "subflows", "packets")
#: Upper limit for the duration of an attempt, about a hundred years: larger numbers are damage.
LONGEST_SECONDS = 3.2e9


class ResultError(Exception):
    """A result.json cannot be used; the message names the file, the problem and the next step."""


@dataclass(frozen=True)
class Figure:
    """A measured figure in ``unit``, with its configured upper limit, or None."""

    name: str
    value: float
    unit: str
    limit: float | None = None

    @property
    def is_exceeded(self) -> bool:
        """Return whether the figure is over its limit; False if it has none."""
        return self.limit is not None and self.value > self.limit

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.name} {number(self.value)}{unit}"


@dataclass(frozen=True)
class Evidence:
    """A file of evidence, relative to the run's folder; ``kind`` selects how a report shows it."""

    name: str
    kind: str
    file: str


@dataclass(frozen=True)
class Attempt:
    """One attempt at a check; ``duration`` is in seconds, ``where`` is the file and line of a breach."""

    outcome: Outcome
    reason: str
    where: str
    duration: float
    figures: tuple[Figure, ...] = ()
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True)
class Check:
    """One case of a claim with its verdict; a case without attempts was never started.

    ``diagnosis`` is what was found wrong with the lab when the check failed. ``known`` says what the kernel
    does instead where the catalogue's corrections have that a SHOULD does not hold on it; else it is empty.
    """

    id: str
    case: str
    family: str
    claim: str
    level: Level
    source: str
    verdict: Verdict
    reason: str = ""
    where: str = ""
    next_step: str = ""
    attempts: tuple[Attempt, ...] = ()
    diagnosis: Cause | None = None
    known: str = ""

    @property
    def cause(self) -> Cause | None:
        """Return the cause that explains why the check did not pass, or None.

        A known deviation has what the kernel does as its cause. A failed check has the diagnosis of the lab
        as its cause. An undecided check has its own reason: many checks may meet one defect of the suite, and
        share it even if its line differs. A check that was not started has no cause here, because the run's
        ending explains it.
        """
        if self.known:
            return Cause(f"known deviation of this kernel: {self.known}", "", "")
        if self.diagnosis is not None or self.verdict is not Verdict.INCONCLUSIVE or not self.attempts:
            return self.diagnosis
        is_defect = self.attempts[-1].outcome is Outcome.DEFECT  # its place is a line of the check
        return Cause(self.reason, "" if is_defect else self.where, self.next_step)

    @property
    def duration(self) -> float:
        """Return the duration of all attempts together, in seconds."""
        return sum(attempt.duration for attempt in self.attempts)

    @property
    def figures(self) -> tuple[Figure, ...]:
        """Return the figures of the last attempt, which decides the verdict."""
        return self.attempts[-1].figures if self.attempts else ()

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """Return the evidence of the last attempt, which decides the verdict."""
        return self.attempts[-1].evidence if self.attempts else ()


@dataclass(frozen=True)
class NotRun:
    """A case that was selected but not started, and the reason (a deadline, an interruption)."""

    case: str
    reason: str


@dataclass(frozen=True)
class Result:
    """A run: times are UTC in ISO 8601; ``lab`` is the document of `mptcp_lab.results.lab_document`."""

    run_id: str
    started: str
    finished: str
    ending: Ending
    exit_code: int
    checks: tuple[Check, ...]
    not_run: tuple[NotRun, ...] = ()
    sentence: str = ""
    lab: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    version: str = ""
    made_by: MadeBy = field(default_factory=MadeBy)
    schema: int = SCHEMA

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of checks by verdict; every verdict is a key."""
        found = Counter(check.verdict for check in self.checks)
        return {verdict.value: found[verdict] for verdict in Verdict}

    @property
    def causes(self) -> tuple[SharedCause, ...]:
        """Return each cause of checks that did not pass, once, the one with the most checks first."""
        return group_by_cause(
            (check.cause, check.case, check.verdict.value) for check in self.checks if check.cause
        )


def count_verdicts(checks: Iterable[Check]) -> list[Verdict]:
    """Return the verdicts that decide the exit code: a known deviation counts as a pass."""
    return [Verdict.PASS if check.known else check.verdict for check in checks]


def number(value: float) -> str:
    """Format a measured value with three significant digits, whole numbers in full."""
    if value == int(value):
        return str(int(value))
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    short = f"{value:.{digits}f}"
    return short if float(short) else f"{value:.3g}"


def save(result: Result, path: Path) -> None:
    """Write a result to ``path`` as JSON."""
    write_synced(path, json.dumps(to_json(result), indent=1, ensure_ascii=False) + "\n")


def load(path: Path) -> Result:
    """Read a result.json, given by its path or its folder's; raise `ResultError` if it cannot be used."""
    path = path / "result.json" if path.is_dir() else path
    try:
        text = read_text(path)
    except Malformed as error:
        raise ResultError(f"{path}: {error}; give a run's folder or its result.json") from None
    try:
        document = parse_json(text)
    except Malformed as error:
        raise ResultError(f"{path}: {error}; run the suite again") from None
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema not in READABLE or isinstance(schema, bool):
        known = " or ".join(map(str, READABLE))
        what = f"not a result of schema {known} (schema is {shorten(schema)})"
        raise ResultError(f"{path}: {what}; use the revision that wrote it")
    try:
        return from_json(document)
    except Malformed as error:
        what = f"does not follow result.schema.json ({error})"
        raise ResultError(f"{path}: {what}; run the suite again") from None


def to_json(result: Result) -> dict[str, Any]:
    """Return the result as a document that follows result.schema.json."""
    names = {shared.cause: name for name, shared in _named_causes(result).items()}
    return {
        "schema": SCHEMA,
        "version": result.version,
        "made_by": made_by.to_json(result.made_by),
        "run": {
            "id": result.run_id,
            "started": result.started,
            "finished": result.finished,
            "ending": result.ending,
            "sentence": result.sentence,
        },
        "lab": dict(result.lab),
        "options": dict(result.options),
        "counts": result.counts,
        "exit_code": int(result.exit_code),
        "causes": [_cause_to_json(name, shared) for name, shared in _named_causes(result).items()],
        "checks": [check_to_json(check, names) for check in result.checks],
        "not_run": [asdict(entry) for entry in result.not_run],
    }


def from_json(document: Mapping[str, Any]) -> Result:
    """Return the run that a document describes; raise `Malformed` for a wrong shape or a contradiction."""
    root = Node(document)
    schema = root["schema"].whole_number()
    keys = ("schema", "version", "run", "lab", "options", "counts", "exit_code", "checks", "not_run")
    root.check_keys(*keys, *(("made_by", "causes") if schema > 1 else ()))
    causes = dict(_cause_from_json(node) for node in root.get("causes", []).items())
    run = root["run"]
    run.check_keys("id", "started", "finished", "ending", "sentence")
    result = Result(
        run_id=run["id"].text(least=1),
        started=_moment(run["started"]),
        finished=_moment(run["finished"]),
        ending=run["ending"].choice(Ending),
        sentence=run["sentence"].text(),
        exit_code=root["exit_code"].whole_number(),
        checks=tuple(check_from_json(node, causes) for node in root["checks"].items()),
        not_run=tuple(_not_run_from_json(node) for node in root["not_run"].items()),
        lab=_checked_lab(root["lab"]),
        options=root["options"].mapping(),
        version=root["version"].text(),
        made_by=made_by.from_json(root["made_by"]) if schema > 1 else MadeBy(),
        schema=schema,
    )
    _check_agreement(result, root)
    return result


def _moment(node: Node) -> str:
    text = node.text()
    try:
        if not TIME.fullmatch(text):
            raise ValueError
        datetime.fromisoformat(text)
    except ValueError:
        raise Malformed(f"{node.place}: {shorten(text)} is not a UTC time") from None
    return text


def _check_agreement(result: Result, root: Node) -> None:
    """Refuse a document whose verdicts, counts and exit code do not follow from its attempts."""
    rules = Rules(
        strict=root["options"].get("strict", False).flag(),
        expect_all=root["options"].get("expect_all", False).flag(),
    )
    seen: set[str] = set()
    for check in result.checks:
        outcomes = [attempt.outcome for attempt in check.attempts] or [Outcome.INCONCLUSIVE]
        follows = decide(outcomes, check.level, rules)
        if check.verdict is not follows:
            raise Malformed(
                f"{to_one_line(check.case)} has verdict {check.verdict}, but its attempts give {follows}"
            )
        if check.known and check.verdict is not Verdict.NON_STRICT:
            raise Malformed(f"{to_one_line(check.case)} has verdict {check.verdict}, but a known deviation")
        if check.case in seen:
            raise Malformed(f"case {to_one_line(check.case)} is listed twice")
        seen.add(check.case)
    for verdict, node in root["counts"].members():
        if node.whole_number() != result.counts.get(verdict):
            expected = result.counts.get(verdict, "not a verdict")
            raise Malformed(f"counts.{to_one_line(verdict)} is {node.whole_number()}, expected {expected}")
    verdicts = count_verdicts(result.checks)
    # A failure outside the claims, such as in an ordinary test, counts as a failed claim.
    codes = [exit_code(found, result.ending, rules) for found in (verdicts, [*verdicts, Verdict.FAIL])]
    if result.exit_code not in codes:
        raise Malformed(f"exit_code is {result.exit_code}, but the verdicts give {int(codes[0])}")


def _checked_lab(lab: Node) -> Mapping[str, Any]:
    """Return the lab if every value has its type; values that no report reads may be missing."""
    lab.check_keys("name", "flavour", "source", "segments", "hosts")
    _ = lab["name"].text(), lab.get("flavour", "").text(), lab["source"].text()
    for segment in lab["segments"].items():
        segment.check_keys("name", "kind", "ipv4", "ipv6")
        _ = segment["name"].text(), segment["kind"].text()
        _ = segment.get("ipv4", None).text_or_none(), segment.get("ipv6", None).text_or_none()
    for host in lab["hosts"].items():
        host.check_keys("name", "functions", "mptcp", "nics", "services", "facts")
        _ = host["name"].text(), host["mptcp"].flag(), host["facts"].mapping()
        _ = [function.text() for function in host["functions"].items()]
        for nic in host["nics"].items():
            nic.check_keys("segment", "device", "ipv4", "ipv6", "rate", "up")
            _ = nic["segment"].text(), nic["device"].text(), nic["up"].flag()
            _ = [nic[key].text_or_none() for key in ("ipv4", "ipv6", "rate")]
        for service in host["services"].items():
            service.check_keys("name", "engine", "port", "mptcp", "backends")
            _ = service.get("name", "").text(), service["engine"].text(), service["mptcp"].text()
            _ = service["port"].whole_number(), [each.text() for each in service.get("backends", []).items()]
    return lab.mapping()


def _named_causes(result: Result) -> dict[str, SharedCause]:
    """Return the causes by the names that checks refer to in the document."""
    return {f"cause-{number}": shared for number, shared in enumerate(result.causes, 1)}


def _cause_to_json(name: str, shared: SharedCause) -> dict[str, Any]:
    return {"id": name, **asdict(shared.cause), "cases": list(shared.cases)}


def _cause_from_json(node: Node) -> tuple[str, Cause]:
    node.check_keys("id", "what", "where", "next_step", "cases")
    _ = [case.text() for case in node["cases"].items()]  # checked for type only: the checks refer to causes
    cause = Cause(node["what"].text(), node["where"].text(), node["next_step"].text())
    return node["id"].text(least=1), cause


def check_to_json(check: Check, names: Mapping[Cause, str]) -> dict[str, Any]:
    """Return a check as a JSON object; ``names`` has the name of each cause that it may refer to."""
    plain = asdict(check)
    del plain["diagnosis"]
    return {
        **plain,
        "cause": names[check.cause] if check.cause else "",
        "duration": check.duration,
        "figures": [asdict(figure) for figure in check.figures],
        "evidence": [asdict(evidence) for evidence in check.evidence],
    }


def _not_run_from_json(node: Node) -> NotRun:
    node.check_keys("case", "reason")
    return NotRun(node["case"].text(), node["reason"].text())


def check_from_json(node: Node, causes: Mapping[str, Cause]) -> Check:
    """Return the check of a JSON object; raise `Malformed` for a wrong shape."""
    names = {field.name for field in fields(Check)} - {"diagnosis"}
    node.check_keys(*names, "cause", "duration", "figures", "evidence")
    plain = {
        key: node[key].text() for key in ("id", "case", "claim", "source", "reason", "where", "next_step")
    }
    node["duration"].number(0)  # checked for type only: the attempts hold the values that are used
    _ = [_figure_from_json(each) for each in node["figures"].items()]
    _ = [_evidence_from_json(each) for each in node["evidence"].items()]
    family = node["family"].text()
    if family not in FAMILIES:
        raise Malformed(f"{node.place}.family: {shorten(family)} is not one of {', '.join(FAMILIES)}")
    verdict = node["verdict"].choice(Verdict)
    known = node.get("known", "").text()
    name = node.get("cause", "").text()
    if name and name not in causes:
        raise Malformed(f"{node.place}.cause: {shorten(name)} is not the id of one of the causes")
    return Check(
        **plain,
        family=family,
        level=node["level"].choice(Level),
        verdict=verdict,
        attempts=tuple(_attempt_from_json(each) for each in node["attempts"].items(most=2)),
        diagnosis=causes.get(name) if verdict is not Verdict.INCONCLUSIVE and not known else None,
        known=known,
    )


def _attempt_from_json(node: Node) -> Attempt:
    node.check_keys(*(field.name for field in fields(Attempt)))
    return Attempt(
        outcome=node["outcome"].choice(Outcome),
        reason=node["reason"].text(),
        where=node["where"].text(),
        duration=node["duration"].number(0, LONGEST_SECONDS),
        figures=tuple(_figure_from_json(each) for each in node["figures"].items()),
        evidence=tuple(_evidence_from_json(each) for each in node["evidence"].items()),
    )


def _figure_from_json(node: Node) -> Figure:
    node.check_keys(*(field.name for field in fields(Figure)))
    limit = node["limit"]
    return Figure(
        name=node["name"].text(),
        value=node["value"].number(),
        unit=node["unit"].text(),
        limit=None if limit.value is None else limit.number(),
    )


def _evidence_from_json(node: Node) -> Evidence:
    node.check_keys(*(field.name for field in fields(Evidence)))
    kind = node["kind"].text()
    if kind not in KINDS:
        raise Malformed(f"{node.place}.kind: {shorten(kind)} is not one of {', '.join(KINDS)}")
    return Evidence(node["name"].text(), kind, node["file"].text())
