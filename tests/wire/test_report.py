"""The command: text, JSON and HTML of one document, exit codes, one sentence for what is no capture."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bench.wire import write
from mptcp_lab.catalogue import corrections
from mptcp_lab.wire import MpCapable, analyse
from mptcp_lab.wire.__main__ import main
from mptcp_lab.wire.rows import ROWS
from tests.wire.conftest import CASES, capture_paths, named, segments_of


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


STATES = {
    "join": ["established in packet", "established in packet", "established in packet"],
    "join_reset": ["established in packet", "refused by the server in packet"],
    "join_refused": ["established in packet", "refused by the server in packet"],
}


@pytest.mark.parametrize("name", STATES)
def test_every_subflow_has_its_state_in_every_view(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(named(name)), "--json"])
    states = [each["state"] for each in json.loads(capsys.readouterr().out)["connections"][0]["subflows"]]
    assert all(state.startswith(begin) for state, begin in zip(states, STATES[name], strict=True))
    for view in ([], ["--html"]):
        main([str(named(name)), *view])
        out = unescape(capsys.readouterr().out)
        assert all(state in out for state in states)


def test_a_refusal_has_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    main([str(named("join_refused"))])
    assert "after its SYN/ACK (reason 3: administratively prohibited)" in capsys.readouterr().out


def test_a_join_that_nobody_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second join's packets after its SYN are gone, also from the network: nobody acknowledges any."""
    segments = list(segments_of(named("join")))
    (connection,) = analyse(segments).connections
    gone = connection.subflows[2]
    left = [
        each
        for each in segments
        if each.number == gone.first_packet or gone.sport not in (each.sport, each.dport)
    ]
    path = tmp_path / "unanswered.pcap"
    write(path, iter(left))
    main([str(path)])
    assert "never answered: 1 SYN, nothing from the server" in capsys.readouterr().out


def test_a_known_deviation_is_shown_with_its_sentence_in_every_view(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sentence = next(each.sentence for each in corrections() if each.claim == "RFC8684-3.1/16")
    assert main([str(named("join")), "--json"]) == 0
    verdicts = json.loads(capsys.readouterr().out)["connections"][0]["verdicts"]
    (known,) = [each for each in verdicts if each["outcome"] == "known"]
    assert (known["alias"], known["known"]["sentence"]) == ("R16", sentence)
    for view in ([], ["--html"]):
        assert main([str(named("join")), *view]) == 0
        assert sentence in unescape(capsys.readouterr().out)


def test_options_are_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    """No Python object in any report: an option has its name in the RFC and what it says."""
    for path in (*capture_paths(), *CASES.glob("*.pcap")):
        main([str(path)])
        out = capsys.readouterr().out
        assert not re.search(r"\w+\(\w+=|None|b'", out), path
    main([str(named("add_addr"))])
    assert re.search(r"client sends ADD_ADDR echo: [0-9.]+ \(id \d+\)", capsys.readouterr().out)


def test_leftovers_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    main([str(CASES / "fastclose-in-a-busy-capture.pcap")])
    out = capsys.readouterr().out
    assert "leftovers of 2 connections from before the capture, without data [packets 7 9]" in out
    assert out.count("\nconnection ") == 2


def test_syn_acks_of_earlier_connections_are_leftovers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A listener repeats its SYN/ACKs to joins that came to nothing, long after their connections."""
    segments = list(segments_of(named("join")))
    syn_ack = analyse(segments).connections[0].subflows[1].syn_ack
    assert syn_ack is not None
    late = [replace(syn_ack, dport=port, seq=port, time_ns=segments[-1].time_ns) for port in range(10, 17)]
    path = tmp_path / "late.pcap"
    write(path, iter([*segments, *late]))
    assert main([str(path)]) == 0
    out = capsys.readouterr().out
    assert "; 1 MPTCP connections, 0 plain TCP" in out
    assert "leftovers of 7 connections from before the capture" in out


def test_why_a_connection_is_incomplete_is_in_every_view(capsys: pytest.CaptureFixture[str]) -> None:
    path = str(CASES / "one-path-of-two.pcap")
    main([path, "--json"])
    connection = json.loads(capsys.readouterr().out)["connections"][0]
    assert connection["incomplete"] is True
    assert [each["lack"] for each in connection["gaps"]] == ["path"]
    for view in ([], ["--html"]):
        assert main([path, *view]) == 0
        assert connection["gaps"][0]["text"] in unescape(capsys.readouterr().out)


def test_a_whole_end_makes_the_missing_path_a_breach() -> None:
    assert main([str(CASES / "one-path-of-two.pcap"), "--whole-end"]) == 1


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
