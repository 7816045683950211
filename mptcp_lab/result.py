"""The result of a run: ``result.json``, the contract that every report is a view of.

The schema lies beside this file in ``result.schema.json``; ``SCHEMA`` is its version, which changes when a
reader of the old one could be misled.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mptcp_lab.verdict import Ending, ExitCode, Level, Outcome, Verdict

SCHEMA = 1


class ResultError(Exception):
    """A result.json that cannot be used; the message names the file and what is wrong with it."""


@dataclass(frozen=True)
class Figure:
    """A measured figure, with the limit that it must not exceed where one is configured."""

    name: str
    value: float
    unit: str
    limit: float | None = None

    @property
    def exceeded(self) -> bool:
        """Whether the figure is over its limit."""
        return self.limit is not None and self.value > self.limit

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.name} {number(self.value)}{unit}"


@dataclass(frozen=True)
class Evidence:
    """A file of evidence, relative to the run's folder; ``kind`` says how a report shows it."""

    name: str
    kind: str
    file: str


@dataclass(frozen=True)
class Attempt:
    """One try at a check. ``duration`` in seconds; ``where`` is the file and line of a breach."""

    outcome: Outcome
    reason: str
    where: str
    duration: float
    figures: tuple[Figure, ...] = ()
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True)
class Check:
    """One claim, or one case of it, with its verdict. Without attempts it was never started."""

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

    @property
    def duration(self) -> float:
        """Seconds over all attempts."""
        return sum(attempt.duration for attempt in self.attempts)

    @property
    def figures(self) -> tuple[Figure, ...]:
        """The figures of the attempt that decided."""
        return self.attempts[-1].figures if self.attempts else ()

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """The evidence of the attempt that decided."""
        return self.attempts[-1].evidence if self.attempts else ()


@dataclass(frozen=True)
class NotRun:
    """A case that was selected and not started, and why (a deadline, an interruption)."""

    case: str
    reason: str


@dataclass(frozen=True)
class Result:
    """A run: times are UTC in ISO 8601; ``lab`` is what `mptcp_lab.report.lab_document` makes of the lab."""

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

    @property
    def counts(self) -> dict[str, int]:
        """How many checks have each verdict; every verdict is a key."""
        found = Counter(check.verdict for check in self.checks)
        return {verdict.value: found[verdict] for verdict in Verdict}


def number(value: float) -> str:
    """Write a measured value with three significant digits, and whole numbers in full."""
    if value == int(value):
        return str(int(value))
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    short = f"{value:.{digits}f}"
    return short if float(short) else f"{value:.3g}"


def save(result: Result, path: Path) -> None:
    """Write result.json."""
    replace(path, json.dumps(to_json(result), indent=1, ensure_ascii=False) + "\n")


def replace(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the whole new one, never a part."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def load(path: Path) -> Result:
    """Read a result.json, or the one in a run's folder; raise `ResultError` with one clear sentence."""
    path = path / "result.json" if path.is_dir() else path
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ResultError(f"{path}: {error.strerror}; give a run's folder or its result.json") from None
    except ValueError as error:
        raise ResultError(f"{path}: cut short or not JSON ({error}); run the suite again") from None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        found = document.get("schema") if isinstance(document, dict) else None
        raise ResultError(f"{path}: not a result of schema {SCHEMA} (schema is {found!r})")
    try:
        return from_json(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise ResultError(f"{path}: does not follow result.schema.json ({what})") from None


def to_json(result: Result) -> dict[str, Any]:
    """Return the document of result.schema.json."""
    return {
        "schema": SCHEMA,
        "version": result.version,
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
        "checks": [_check_to_json(check) for check in result.checks],
        "not_run": [asdict(entry) for entry in result.not_run],
    }


def from_json(document: Mapping[str, Any]) -> Result:
    """Return the run that a document describes; KeyError, TypeError or ValueError where it is malformed."""
    run = document["run"]
    return Result(
        run_id=run["id"],
        started=run["started"],
        finished=run["finished"],
        ending=Ending(run["ending"]),
        sentence=run["sentence"],
        exit_code=int(ExitCode(document["exit_code"])),
        checks=tuple(_check_from_json(entry) for entry in document["checks"]),
        not_run=tuple(NotRun(**entry) for entry in document["not_run"]),
        lab=_checked_lab(document["lab"]),
        options=document["options"],
        version=document["version"],
    )


def _checked_lab(lab: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the lab if it has what reports read; raise KeyError or TypeError where it has not."""
    for key in ("name", "source"):
        str(lab[key])
    for segment in lab["segments"]:
        _ = segment["name"], segment["kind"]
    for host in lab["hosts"]:
        _ = host["name"], host["functions"], host["mptcp"], host["facts"].items()
        for nic in host["nics"]:
            _ = tuple(nic[key] for key in ("segment", "device", "ipv4", "ipv6", "rate", "up"))
        for service in host["services"]:
            _ = tuple(service[key] for key in ("engine", "port", "mptcp"))
    return lab


def _check_to_json(check: Check) -> dict[str, Any]:
    return {
        **asdict(check),
        "duration": check.duration,
        "figures": [asdict(figure) for figure in check.figures],
        "evidence": [asdict(evidence) for evidence in check.evidence],
    }


def _check_from_json(entry: Mapping[str, Any]) -> Check:
    plain = {key: entry[key] for key in ("id", "case", "family", "claim", "source")}
    plain |= {key: entry[key] for key in ("reason", "where", "next_step")}
    return Check(
        **plain,
        level=Level(entry["level"]),
        verdict=Verdict(entry["verdict"]),
        attempts=tuple(_attempt_from_json(attempt) for attempt in entry["attempts"]),
    )


def _attempt_from_json(entry: Mapping[str, Any]) -> Attempt:
    return Attempt(
        outcome=Outcome(entry["outcome"]),
        reason=entry["reason"],
        where=entry["where"],
        duration=float(entry["duration"]),
        figures=tuple(Figure(**figure) for figure in entry["figures"]),
        evidence=tuple(Evidence(**evidence) for evidence in entry["evidence"]),
    )
