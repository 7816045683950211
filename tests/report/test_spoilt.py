"""Whatever a result.json holds, it is one sentence, or every view of it is sound."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest

from mptcp_lab.report import html, junit
from mptcp_lab.report.__main__ import main
from mptcp_lab.results import result as results
from mptcp_lab.results.result import Result, ResultError
from tests.mutations import as_json, spoilt, spoilt_text

SCHEMA = json.loads(Path(results.__file__).with_name("result.schema.json").read_text(encoding="utf-8"))
#: Characters that a terminal executes, or that only some programs treat as the end of a line.
EXECUTED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
#: Breaches of the schema that mislead a reader; what no report reads may be missing.
MISLEADING = {"type", "enum", "const", "pattern", "maxItems", "minimum", "additionalProperties"}


def views_are_sound(path: Path, capsys: pytest.CaptureFixture[str]) -> bool:
    """Print a file in every way; return whether it was accepted. A refusal is one sentence."""
    codes = set()
    for words in (["terminal", str(path)], ["compare", str(path), str(path)], ["junit", str(path)]):
        codes.add(main(words))
        printed = capsys.readouterr()
        assert not EXECUTED.search(printed.out + printed.err), words
        if printed.err:
            assert re.fullmatch(r"ERROR: [^\n]*; [^\n]*\n", printed.err)
            assert len(printed.err) < 600, printed.err
        elif words[0] == "junit":
            ET.fromstring(printed.out)
    assert codes in ({0}, {2})
    if codes == {0}:
        assert not EXECUTED.search(html.render(results.load(path), path.parent))
    return codes == {0}


def test_documents_with_values_that_are_others(
    run: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = json.loads((tmp_path / "result.json").read_text())
    path = tmp_path / "spoilt.json"
    checker = jsonschema.Draft202012Validator(SCHEMA)
    accepted = 0
    for document in spoilt(sound, seed=13, count=600):
        path.write_bytes(as_json(document))
        if views_are_sound(path, capsys):
            accepted += 1
            wrong = [
                error.message for error in checker.iter_errors(document) if error.validator in MISLEADING
            ]
            assert not wrong, wrong
    assert 10 < accepted < 200  # texts may be others; types, words and numbers may not


def test_texts_that_were_cut_or_overwritten(
    run: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "spoilt.json"
    for content in spoilt_text((tmp_path / "result.json").read_text(), seed=14, count=300):
        path.write_bytes(content)
        views_are_sound(path, capsys)


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (("exit_code",), 0, "exit_code is 0, but the verdicts give 4"),
        (
            ("checks", 2, "verdict"),
            "pass",
            r"PROXY-1\[haproxy\] has verdict pass, but its attempts give fail",
        ),
        (("counts", "fail"), 0, "counts.fail is 0"),
        (("checks", 1, "case"), "DIRECT-7", "case DIRECT-7 is listed twice"),
        (("checks", 0, "attempts", 0, "figures", 0, "value"), True, "True is not a number"),
        (("run", "started"), "2026-13-01T00:00:00.000Z", "is not a UTC time"),
        (("checks", 0, "attempts", 0, "outcome"), "over-limit", "has verdict pass"),
    ],
)
def test_a_document_that_contradicts_itself_is_refused(
    run: Result, tmp_path: Path, path: tuple[Any, ...], value: Any, sentence: str
) -> None:
    document: Any = json.loads((tmp_path / "result.json").read_text())
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    (tmp_path / "other.json").write_text(json.dumps(document))
    with pytest.raises(ResultError, match=sentence):
        results.load(tmp_path / "other.json")


def test_a_failure_outside_the_claims_is_no_contradiction(run: Result, tmp_path: Path) -> None:
    document = json.loads((tmp_path / "result.json").read_text())
    document["checks"] = [check for check in document["checks"] if check["verdict"] == "pass"]
    document["counts"] = {}
    document["run"] |= {"ending": "complete"}
    for code, sound in ((0, True), (1, True), (3, False), (4, False)):
        document["exit_code"] = code
        (tmp_path / "other.json").write_text(json.dumps(document))
        if sound:
            assert results.load(tmp_path / "other.json").exit_code == code
        else:
            with pytest.raises(ResultError, match="exit_code"):
                results.load(tmp_path / "other.json")


def test_what_is_no_file_of_text_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "latin1.json").write_bytes(b'{"schema": "\xe9"}')
    with pytest.raises(ResultError, match=r"not UTF-8 \(at byte 12\)"):
        results.load(tmp_path / "latin1.json")
    with pytest.raises(ResultError, match="not a regular file"):
        results.load(Path("/dev/zero"))
    (tmp_path / "huge.json").touch()
    with (tmp_path / "huge.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ResultError, match="larger than 64 MiB"):
        results.load(tmp_path / "huge.json")


def test_escapes_reach_no_terminal_and_no_xml(run: Result, tmp_path: Path) -> None:
    document = json.loads((tmp_path / "result.json").read_text())
    painted = "\x1b[2J\nexit code 0: all well\0"
    document["run"]["sentence"] = document["run"]["id"] = painted
    document["checks"][2] |= {"reason": painted, "where": painted, "case": painted, "claim": painted}
    document["lab"]["hosts"][0]["name"] = document["lab"]["name"] = painted
    (tmp_path / "other.json").write_text(json.dumps(document))
    loaded = results.load(tmp_path / "other.json")
    cases = [case.get("name") for case in ET.fromstring(junit.render(loaded)).iter("testcase")]
    assert "\\x1b[2J\nexit code 0: all well\\x00" in cases
    assert "\0" not in html.render(loaded, tmp_path)


def test_no_line_of_the_terminal_is_painted_by_a_line_end(
    run: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = json.loads((tmp_path / "result.json").read_text())
    document["checks"][0]["case"] = "DIRECT-7\nexit code 0: all well"
    document["not_run"][0]["reason"] = "late\nexit code 0: all well"
    (tmp_path / "other.json").write_text(json.dumps(document))
    assert main(["terminal", str(tmp_path / "other.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("exit code")] == [
        "exit code 4: the lab is broken, or a check could not be decided"
    ]


@pytest.mark.parametrize("versions", [None, [], "3.0.11", 7, {"haproxy": None}])
def test_a_comparison_of_hosts_with_damaged_versions(
    run: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str], versions: object
) -> None:
    document = json.loads((tmp_path / "result.json").read_text())
    for host in document["lab"]["hosts"]:
        host["facts"] = {"versions": versions}
    path = tmp_path / "spoilt.json"
    path.write_bytes(as_json(document))
    assert views_are_sound(path, capsys)
