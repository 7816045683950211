"""The command: text, JSON and HTML of one document, exit codes, one sentence for what is no capture."""

from __future__ import annotations

import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mptcp_lab.wire.__main__ import main
from mptcp_lab.wire.rows import ROWS
from tests.wire.conftest import capture_paths, named


def test_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(named("failover"))]) == 0
    text = capsys.readouterr().out
    assert "subflow 1: [198.18.2.1]:" in text
    assert "R36 RFC8684-3.3.6/1 SHOULD" in text
    assert "subflow 0 had data outstanding" in text


def test_json_has_every_row_of_every_connection(capsys: pytest.CaptureFixture[str]) -> None:
    for path in capture_paths():
        main([str(path), "--json"])
        report = json.loads(capsys.readouterr().out)
        for connection in report["connections"]:
            assert [each["alias"] for each in connection["verdicts"]] == [row.alias for row in ROWS]


class Cells(HTMLParser):
    """Counts table rows by class; fails on markup that does not nest."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "p"):
            self.open.append(tag)
        if tag == "tr":
            self.rows += [dict(attrs).get("class") or ""]

    def handle_endtag(self, tag: str) -> None:
        if tag != "p":
            assert self.open.pop() == tag


def test_html_shows_the_same_verdicts(capsys: pytest.CaptureFixture[str]) -> None:
    main([str(named("join")), "--json"])
    verdicts = json.loads(capsys.readouterr().out)["connections"][0]["verdicts"]
    assert main([str(named("join")), "--html"]) == 1
    page = Cells()
    page.feed(capsys.readouterr().out)
    assert page.open == []
    assert page.rows[1:] == [each["outcome"] for each in verdicts]


def test_exit_codes() -> None:
    assert main([str(named("handshake"))]) == 0
    assert main([str(named("join"))]) == 1
    assert main([str(named("failover"))]) == 0


def test_what_is_no_capture_gets_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    command = [sys.executable, "-m", "mptcp_lab.wire", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"{path}: is empty; ")
    assert done.stderr.count("\n") == 1


def test_codec_and_keys_need_no_dependency() -> None:
    """In an interpreter without site-packages."""
    code = "from mptcp_lab.wire import decode_options, token; print(decode_options(bytes(1)), token(0))"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
