"""Render a run as a KCIDB report, schema 5.0, for the database of the kernel's CI systems.

The report has a test per case, a build for the kernels that were tested, and the checkout that the build
names. Their commit, configuration and compiler are missing, since mptcp-lab cannot find them out: a CI
system that built the kernel itself names its own build by ``build_id``. Format:
https://docs.kernelci.org/kcidb/ and kcidb_io/schema/v05_00.py.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mptcp_lab.catalogue.level import Level
from mptcp_lab.report.compare import unique_facts
from mptcp_lab.results.result import Check, Figure, NotRun, Result
from mptcp_lab.results.verdict import Verdict
from mptcp_lab.text import make_printable

VERSION = {"major": 5, "minor": 0}
#: Name of the CI system that submits; a real one has to be agreed with the database's maintainers.
ORIGIN = "mptcp_lab"
ORIGIN_FORM = re.compile(r"[a-z0-9_]+")
BUILD_FORM = re.compile(r"[a-z0-9_]+:[^\0]*")
#: Upper limit for the text of a failure, in characters: the database wants excerpts, not logs.
EXCERPT_CHARACTERS = 16_000


@dataclass(frozen=True)
class Submission:
    """The CI system that submits a report (``origin``), and the id of its tested build, if it has one."""

    origin: str = ORIGIN
    build_id: str = ""

    def __post_init__(self) -> None:
        """Refuse words that the schema does not have.

        Raises:
            ValueError: the origin or the id is not of the schema's form.
        """
        if not ORIGIN_FORM.fullmatch(self.origin):
            raise ValueError(f"origin {self.origin!r}: use lower-case letters, digits and underscores")
        if self.build_id and not BUILD_FORM.fullmatch(self.build_id):
            raise ValueError(f"build id {self.build_id!r}: it begins with an origin and a colon")


def render(result: Result, submission: Submission | None = None) -> str:
    """Return the report as JSON text."""
    return json.dumps(to_json(result, submission or Submission()), indent=1) + "\n"


def to_json(result: Result, submission: Submission) -> dict[str, Any]:
    """Return the report; with a build id of the CI system, it has tests only."""
    origin = submission.origin
    run = f"{origin}:{name_run(result)}"
    build_id = submission.build_id or run
    document: dict[str, Any] = {"version": VERSION}
    if not submission.build_id:
        document["checkouts"] = [_checkout(result, origin, run)]
        document["builds"] = [_build(result, origin, run)]
    common = {"build_id": build_id, "origin": origin, "environment": _environment(result)}
    tests = [{**common, **_test(result, check)} for check in result.checks]
    tests += [{**common, **_not_started(entry)} for entry in result.not_run]
    for number, test in enumerate(tests):
        test["id"] = f"{run}:{number}"
    document["tests"] = tests
    printable: dict[str, Any] = _make_printable(document)
    return printable


def name_run(result: Result) -> str:
    """Return a name that no other run has: jobs of a CI system often start in the same second."""
    made = [result.lab, result.started, result.finished, asdict(result.made_by)]
    digest = hashlib.sha256(json.dumps(made, sort_keys=True, default=str).encode())
    return f"{result.run_id}-{digest.hexdigest()[:8]}"


def _checkout(result: Result, origin: str, run: str) -> dict[str, Any]:
    return {
        "id": run,
        "origin": origin,
        "comment": f"Linux {', '.join(unique_facts(result.lab, 'kernel')) or 'unknown'}",
        "start_time": _time(result.started),
    }


def _build(result: Result, origin: str, run: str) -> dict[str, Any]:
    architectures = unique_facts(result.lab, "architecture")
    build: dict[str, Any] = {"id": run, "checkout_id": run, "origin": origin}
    if builds := unique_facts(result.lab, "kernel_build"):
        build["comment"] = "; ".join(builds)
    if len(architectures) == 1 and re.fullmatch(r"[a-z0-9_]*", architectures[0]):
        build["architecture"] = architectures[0]
    build["misc"] = {"command_lines": unique_facts(result.lab, "command_line")}
    return build


def _environment(result: Result) -> dict[str, Any]:
    lab = result.lab
    versions = {host["name"]: host["facts"].get("versions", {}) for host in lab.get("hosts", ())}
    return {
        "comment": f"lab {lab.get('name', '')}, {result.made_by.engine or lab.get('flavour', '')}",
        "misc": {"mptcp_lab": result.version, "revision": result.made_by.revision, "versions": versions},
    }


def _test(result: Result, check: Check) -> dict[str, Any]:
    test: dict[str, Any] = {
        "path": path_of(check.case),
        "comment": f"{check.case}: {check.claim}",
        "status": status_of(check),
        "start_time": _time(result.started),
        "misc": {
            "verdict": check.verdict.value,
            "level": check.level.value,
            "source": check.source,
            "figures": [{"name": f.name, "value": f.value, "unit": f.unit} for f in check.figures],
        },
    }
    if check.attempts:
        test["duration"] = check.duration
    if check.verdict is not Verdict.PASS:
        text = "\n".join(filter(None, (check.reason, check.where, check.next_step)))
        test["log_excerpt"] = make_printable(text)[:EXCERPT_CHARACTERS]
    if check.attempts and check.level is Level.INFO and check.figures:
        test["number"] = _number(check.figures[0])
    return test


def _not_started(entry: NotRun) -> dict[str, Any]:
    return {
        "path": path_of(entry.case),
        "comment": entry.case,
        "status": "MISS",
        "log_excerpt": make_printable(entry.reason),
    }


def status_of(check: Check) -> str:
    """Return the status of a check in the words of KCIDB.

    A measurement, and a SHOULD that does not hold, are DONE: they do not report the tested code as faulty. A
    check that could not be decided is ERROR, and MISS if it was not started.
    """
    match check.verdict:
        case Verdict.FAIL:
            return "FAIL"
        case Verdict.UNSUPPORTED:
            return "SKIP"
        case Verdict.INCONCLUSIVE:
            return "ERROR" if check.attempts else "MISS"
        case Verdict.NON_STRICT:
            return "DONE"
    return "DONE" if check.level is Level.INFO else "PASS"


def path_of(case: str) -> str:
    """Return a case's path: mptcp_lab, claim and parameters, with a dot between them."""
    claim, _, parameters = case.partition("[")
    parts = ["mptcp_lab", claim, *([parameters.removesuffix("]")] if parameters else [])]
    return ".".join(re.sub(r"[^a-zA-Z0-9_-]", "_", part) for part in parts)


def _number(figure: Figure) -> dict[str, Any]:
    return {"value": figure.value, **({"unit": figure.unit} if figure.unit else {})}


def _time(moment: str) -> str:
    return moment.replace("Z", "+00:00")


def _make_printable(value: Any) -> Any:
    """Return a document whose texts are printable: the schema allows no NUL."""
    if isinstance(value, str):
        return make_printable(value)
    if isinstance(value, Mapping):
        return {key: _make_printable(each) for key, each in value.items()}
    return [_make_printable(each) for each in value] if isinstance(value, list | tuple) else value
