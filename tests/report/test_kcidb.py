"""KCIDB reports: the shape of schema 5.0, statuses, paths, and whose build the tests are of.

`SCHEMA` has what kcidb_io/schema/v05_00.py asks of the members that a report has. Reports of whole runs were
also validated with the kcidb-io package.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mptcp_lab.catalogue.level import Level
from mptcp_lab.report import kcidb
from mptcp_lab.report.__main__ import main
from mptcp_lab.report.kcidb import Submission, path_of, status_of
from mptcp_lab.results.result import Figure, Result
from mptcp_lab.results.verdict import Outcome, Verdict
from tests.report.conftest import LAB, a_check, an_attempt
from tests.report.test_baseline import a_run, check

TEXT = {"type": "string", "pattern": "^[^\\0]*$"}
ID = {"type": "string", "pattern": "^[a-z0-9_]+:[^\\0]*$"}
ORIGIN = {"type": "string", "pattern": "^[a-z0-9_]+$"}
TIME = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00$"}
MISC = {"type": "object"}


def members(required: str, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": required.split(),
        "properties": properties,
    }


SCHEMA = members(
    "version",
    version=members("major", major={"const": 5}, minor={"const": 0}),
    checkouts={
        "type": "array",
        "items": members("id origin", id=ID, origin=ORIGIN, comment=TEXT, start_time=TIME),
    },
    builds={
        "type": "array",
        "items": members(
            "id origin checkout_id",
            id=ID,
            origin=ORIGIN,
            checkout_id=ID,
            comment=TEXT,
            architecture={"type": "string", "pattern": "^[a-z0-9_]*$"},
            misc=MISC,
        ),
    },
    tests={
        "type": "array",
        "items": members(
            "id origin build_id",
            id=ID,
            origin=ORIGIN,
            build_id=ID,
            environment=members("", comment=TEXT, misc=MISC),
            path={"type": "string", "pattern": r"^([a-zA-Z0-9_-]+(\.[a-zA-Z0-9_-]+)*)?$"},
            comment=TEXT,
            status={"enum": ["FAIL", "ERROR", "MISS", "PASS", "DONE", "SKIP"]},
            start_time=TIME,
            duration={"type": "number"},
            log_excerpt=TEXT,
            number=members("value", value={"type": "number"}, unit=TEXT),
            misc=MISC,
        ),
    },
)


def report(run: Result, *words: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(kcidb.render(run, Submission(*words)))
    jsonschema.validate(document, SCHEMA)
    return document


def test_a_run_is_a_checkout_a_build_and_a_test_per_case(run: Result) -> None:
    facts = {
        "kernel": "6.18.44",
        "kernel_build": "#1 SMP\0",
        "architecture": "x86_64",
        "command_line": "quiet",
    }
    hosts = [{**host, "facts": facts} for host in LAB["hosts"]]
    document = report(replace(run, lab={**run.lab, "hosts": hosts}))
    (checkout,), (build,) = document["checkouts"], document["builds"]
    assert checkout["comment"] == "Linux 6.18.44"
    assert build["checkout_id"] == checkout["id"]
    assert (build["comment"], build["architecture"]) == ("#1 SMP\\x00", "x86_64")
    assert build["misc"] == {"command_lines": ["quiet"]}
    tests = document["tests"]
    assert {test["build_id"] for test in tests} == {build["id"]}
    assert len({test["id"] for test in tests}) == len(tests) == 7
    assert [(test["path"], test["status"]) for test in tests] == [
        ("mptcp_lab.DIRECT-7", "PASS"),
        ("mptcp_lab.DIRECT-5", "DONE"),
        ("mptcp_lab.PROXY-1.haproxy", "FAIL"),
        ("mptcp_lab.PROXY-1.nginx", "SKIP"),
        ("mptcp_lab.DIRECT-9", "PASS"),
        ("mptcp_lab.GATEWAY-1", "MISS"),
        ("mptcp_lab.SPLIT-1", "MISS"),
    ]
    assert tests[0]["misc"]["figures"] == [{"name": "gap", "value": 203.7, "unit": "ms"}]
    assert tests[0]["duration"] == 0.41
    assert tests[2]["log_excerpt"] == "one subflow\nassert 1 == 2\nconformance/x.py:7"
    assert "log_excerpt" not in tests[0]


def test_a_measurement_is_done_and_has_its_first_figure_as_the_number(run: Result) -> None:
    figures = (Figure("goodput", 930.5, "Mbit/s"), Figure("ratio", 0.9, ""))
    measured = a_check("DIRECT-6", Verdict.PASS, an_attempt(Outcome.HELD, "", *figures), level=Level.INFO)
    (test,) = report(a_run(run, measured))["tests"]
    assert (test["status"], test["number"]) == ("DONE", {"value": 930.5, "unit": "Mbit/s"})


def test_what_could_not_be_decided_is_an_error_unless_it_was_not_started() -> None:
    assert status_of(check("DIRECT-3", Verdict.INCONCLUSIVE)) == "ERROR"
    assert status_of(a_check("DIRECT-3", Verdict.INCONCLUSIVE)) == "MISS"


def test_a_ci_system_reports_tests_of_its_own_build(run: Result) -> None:
    document = report(run, "redhat", "redhat:1234_x86_64")
    assert set(document) == {"version", "tests"}
    assert {test["build_id"] for test in document["tests"]} == {"redhat:1234_x86_64"}
    assert {test["origin"] for test in document["tests"]} == {"redhat"}


@pytest.mark.parametrize(
    ("case", "path"),
    [
        ("RFC8684-3.4.2/2[several-ids-direct]", "mptcp_lab.RFC8684-3_4_2_2.several-ids-direct"),
        ("PROXY-10[in turn, 1.5 s]", "mptcp_lab.PROXY-10.in_turn__1_5_s"),
    ],
)
def test_a_path_has_only_what_the_schema_allows(case: str, path: str) -> None:
    assert path_of(case) == path


def test_the_command_writes_it_and_refuses_other_words(
    run: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["kcidb", str(tmp_path), "--origin", "redhat", "-o", str(tmp_path / "report.json")]) == 0
    jsonschema.validate(json.loads((tmp_path / "report.json").read_text()), SCHEMA)
    for words in (["--origin", "Red Hat"], ["--build-id", "1234"]):
        assert main(["kcidb", str(tmp_path), *words]) == 2
        assert re.fullmatch(r"ERROR: (origin|build id) [^\n]*; see --help\n", capsys.readouterr().err)


def test_runs_of_the_same_second_have_different_ids(run: Result) -> None:
    """The database takes two objects with the same id for one."""
    other = replace(run, made_by=replace(run.made_by, column="another kernel"))
    found = [kcidb.to_json(each, kcidb.Submission()) for each in (run, other, run)]
    for kind in ("checkouts", "builds", "tests"):
        first, second, again = ({each["id"] for each in document[kind]} for document in found)
        assert not first & second
        assert first == again
