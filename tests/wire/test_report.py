"""The command: text, JSON and HTML of one document, exit codes, one sentence for what is no capture."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bench.wire import write
from mptcp_lab.wire import MpCapable
from mptcp_lab.wire.__main__ import main
from mptcp_lab.wire.rows import ROWS
from tests.wire.conftest import capture_paths, named, segments_of


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
    assert main([str(named("join")), "--html"]) == 0
    page = Cells()
    page.feed(capsys.readouterr().out)
    assert page.open == []
    assert page.rows[1:] == [each["outcome"] for each in verdicts]


def test_html_says_first_what_the_text_does(capsys: pytest.CaptureFixture[str]) -> None:
    main([str(named("join"))])
    summary = capsys.readouterr().out.splitlines()[0].partition(": ")[2]
    assert "; 1 MPTCP connections, 0 plain TCP" in summary
    main([str(named("join")), "--html"])
    assert re.sub(r"in [0-9.]+ s", "", summary) in re.sub(r"in [0-9.]+ s", "", capsys.readouterr().out)


def test_a_breach_of_plain_tcp_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """R08: the SYN/ACK to a plain SYN offers MP_CAPABLE; both views say so, and the exit code."""
    segments = list(segments_of(named("plain_client")))
    segments[1] = replace(segments[1], options=(MpCapable(sender_key=1),))
    path = tmp_path / "plain.pcap"
    write(path, iter(segments))
    for view in ([], ["--html"]):
        assert main([str(path), *view]) == 1
        out = capsys.readouterr().out
        assert "breach" in out
        assert "the SYN/ACK offers what the SYN did not" in out


def test_exit_codes() -> None:
    assert main([str(named("handshake"))]) == 0
    assert main([str(named("join"))]) == 0
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
