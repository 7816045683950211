from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mptcp_lab.results import result as results
from mptcp_lab.results.causes import Cause
from mptcp_lab.results.made_by import MadeBy
from mptcp_lab.results.result import Result, ResultError, number
from mptcp_lab.results.verdict import Verdict
from mptcp_lab.untrusted import Malformed

SCHEMA = json.loads(Path(results.__file__).with_name("result.schema.json").read_text(encoding="utf-8"))


def test_what_is_saved_is_what_is_loaded(run: Result, tmp_path: Path) -> None:
    assert results.load(tmp_path / "result.json") == run
    assert results.load(tmp_path) == run
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["result.json"]


def test_it_follows_the_schema(run: Result) -> None:
    document = json.loads(json.dumps(results.to_json(run)))
    jsonschema.validate(document, SCHEMA)
    assert document["counts"] == dict.fromkeys(document["counts"], 1)
    assert document["checks"][0]["figures"] == [{"name": "gap", "value": 203.7, "unit": "ms", "limit": 1000}]
    assert document["checks"][4]["duration"] == pytest.approx(0.82)


def diagnosed(run: Result) -> Result:
    """Return the run with one diagnosis for its failed and its non-strict check."""
    cause = Cause("no endpoint is there", "client", "on client: ip mptcp endpoint add 198.18.2.10")
    failed = (Verdict.FAIL, Verdict.NON_STRICT)
    checks = (replace(each, diagnosis=cause) if each.verdict in failed else each for each in run.checks)
    return replace(run, checks=tuple(checks))


def test_a_cause_is_saved_once_and_checks_refer_to_it(run: Result) -> None:
    run = diagnosed(run)
    document = json.loads(json.dumps(results.to_json(run)))
    jsonschema.validate(document, SCHEMA)
    assert results.from_json(document) == run
    (first,) = document["causes"]
    assert (first["id"], first["where"], len(first["cases"])) == ("cause-1", "client", 2)
    named = {check["case"]: check["cause"] for check in document["checks"] if check["cause"]}
    assert named == dict.fromkeys(first["cases"], "cause-1")
    assert "no endpoint is there" not in json.dumps(document["checks"])


def test_a_result_of_before_there_were_causes_is_loaded(run: Result) -> None:
    document = json.loads(json.dumps(results.to_json(run)))
    del document["causes"]
    for check in document["checks"]:
        del check["cause"]
    assert results.from_json(document) == run


def test_a_cause_that_is_not_there_is_refused(run: Result) -> None:
    document = json.loads(json.dumps(results.to_json(diagnosed(run))))
    document["causes"] = []
    with pytest.raises(Malformed, match=r"cause: .* is not the id of one of the causes"):
        results.from_json(document)


@pytest.mark.parametrize("key", ["schema", "made_by", "run", "lab", "checks", "counts", "exit_code"])
def test_the_schema_refuses_a_document_without(run: Result, key: str) -> None:
    document = json.loads(json.dumps(results.to_json(run)))
    del document[key]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, SCHEMA)


def test_a_file_cut_anywhere_is_one_sentence(run: Result, tmp_path: Path) -> None:
    whole = (tmp_path / "result.json").read_text().rstrip()
    cut = tmp_path / "cut.json"
    for length in range(0, len(whole), 97):
        cut.write_text(whole[:length])
        with pytest.raises(ResultError, match=r"cut\.json: cut short or not JSON .*; run the suite again"):
            results.load(cut)


def _spoil(document: Any, path: tuple[Any, ...], value: Any) -> None:
    for key in path[:-1]:
        document = document[key]
    document[path[-1]] = value


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema",), 3),
        (("schema",), True),
        (("made_by",), None),
        (("made_by", "revision"), "HEAD"),
        (("made_by", "edited"), "no"),
        (("made_by", "lock"), "abc"),
        (("made_by", "patience"), 0.5),
        (("run",), None),
        (("run", "ending"), "tired"),
        (("exit_code",), 9),
        (("checks",), 7),
        (("checks", 0, "verdict"), "splendid"),
        (("checks", 0, "attempts", 0, "figures", 0), {"name": "gap"}),
        (("checks", 0, "attempts"), None),
        (("lab", "hosts", 0, "nics"), None),
        (("lab", "hosts", 0, "facts"), []),
        (("lab", "segments"), [1]),
        (("not_run", 0), {}),
    ],
)
def test_a_spoilt_document_is_one_sentence(
    run: Result, tmp_path: Path, path: tuple[Any, ...], value: Any
) -> None:
    document = json.loads((tmp_path / "result.json").read_text())
    _spoil(document, path, value)
    spoilt = tmp_path / "spoilt.json"
    spoilt.write_text(json.dumps(document))
    with pytest.raises(ResultError, match=r"spoilt\.json: "):
        results.load(spoilt)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, SCHEMA)


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="No such file or directory; give a run's folder"):
        results.load(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (4, "4"),
        (4.0, "4"),
        (203.4, "203"),
        (20.34, "20.3"),
        (0.612, "0.61"),
        (0.00042, "0.00042"),
        (67108864, "67108864"),
    ],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


def test_a_result_of_schema_1_is_read_without_what_made_it(run: Result, tmp_path: Path) -> None:
    document = json.loads((tmp_path / "result.json").read_text())
    document["schema"] = 1
    del document["causes"]
    older = tmp_path / "older.json"
    older.write_text(json.dumps(document))
    with pytest.raises(ResultError, match="unknown key 'made_by'"):
        results.load(older)
    del document["made_by"]
    older.write_text(json.dumps(document))
    loaded = results.load(older)
    assert (loaded.schema, loaded.made_by, loaded.checks) == (1, MadeBy(), run.checks)


def test_a_newer_schema_is_named_with_those_that_can_be_read(run: Result, tmp_path: Path) -> None:
    document = json.loads((tmp_path / "result.json").read_text()) | {"schema": 3}
    (tmp_path / "newer.json").write_text(json.dumps(document))
    expected = r"not a result of schema 1 or 2 \(schema is 3\); use the revision that wrote it"
    with pytest.raises(ResultError, match=expected):
        results.load(tmp_path / "newer.json")


def known(run: Result, verdict: Verdict = Verdict.NON_STRICT) -> Result:
    """Return the run with its non-strict check alone, as a known deviation, and the exit code of a pass."""
    (check,) = (each for each in run.checks if each.verdict is verdict)
    return replace(run, checks=(replace(check, known="the kernel sends none."),), exit_code=0)


def test_a_known_deviation_is_saved_and_counts_as_a_pass(run: Result) -> None:
    document = json.loads(json.dumps(results.to_json(known(run))))
    jsonschema.validate(document, SCHEMA)
    assert results.from_json(document) == known(run)
    assert document["counts"]["non-strict"] == 1
    assert document["causes"][0]["what"] == "known deviation of this kernel: the kernel sends none."


def test_an_exit_code_without_the_known_deviation_is_refused(run: Result) -> None:
    document = json.loads(json.dumps(results.to_json(known(run)))) | {"exit_code": 3}
    with pytest.raises(Malformed, match="exit_code is 3, but the verdicts give 0"):
        results.from_json(document)


def test_only_a_non_strict_check_is_a_known_deviation(run: Result) -> None:
    with pytest.raises(Malformed, match="but a known deviation"):
        results.from_json(json.loads(json.dumps(results.to_json(known(run, Verdict.FAIL)))))
