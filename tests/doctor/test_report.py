"""The report: text for people and the JSON document with its schema."""

import json
from dataclasses import replace
from typing import Any

import jsonschema
import pytest

from mptcp_lab.doctor.connection_reading import Attempt, CaptureSummary, ConnectionReading, Handshake, Pair
from mptcp_lab.doctor.finding import Confidence, Finding, Severity
from mptcp_lab.doctor.host_reading import HostReading
from mptcp_lab.doctor.network_reading import HostAddress
from mptcp_lab.doctor.readings import PairReading
from mptcp_lab.doctor.report import build_document, build_error, render_text
from mptcp_lab.doctor.unreadable import Unreadable
from mptcp_lab.paths import ROOT

SCHEMA = json.loads((ROOT / "mptcp_lab/doctor/doctor.schema.json").read_text())
CLIENT = HostReading("a", kernel="6.18.1", os="Debian 13", addresses=(HostAddress("eth1", "192.0.2.1", 24),))
SERVER = HostReading("b", kernel="6.1.0", uid=1000, nft=Unreadable("needs root: nft"))
CONNECTION = ConnectionReading(
    7000,
    client_address="192.0.2.1",
    server_address="192.0.2.2",
    attempts=(Attempt("", "192.0.2.2", "mptcp", 0.002, is_mptcp=True),),
    subflows=1,
    expected=2,
    pairs=(
        Pair("192.0.2.1", "192.0.2.2", "established", is_first=True),
        Pair("198.51.100.1", "192.0.2.2", "pending"),
    ),
)
READING = PairReading(CLIENT, SERVER, 7000, CONNECTION)
HENCE = Finding("join-lost", Severity.WARNING, "a", "A join is lost.", "So.")
FINDING = Finding(
    "no-route",
    Severity.ERROR,
    "a",
    "The second path has no route.",
    "Joins leave by the wrong device.",
    fix="ip rule add from 198.51.100.1 table 101",
    persistent="write it into /etc/network/interfaces",
    confidence=Confidence.LIKELY,
    evidence=("RTNETLINK answers: Network is unreachable",),
    folded=(HENCE,),
)


def document(*findings: Finding) -> dict[str, Any]:
    return build_document([READING], findings, 1.5)


def test_a_finding_says_what_why_and_the_commands() -> None:
    text = render_text([READING], [FINDING], 1.25)
    assert "ERROR     The second path has no route. (likely)" in text
    assert "why       Joins leave by the wrong device." in text
    assert "on a      # ip rule add from 198.51.100.1 table 101" in text
    assert "seen      RTNETLINK answers" in text
    assert "hence     A join is lost." in text
    assert text.endswith("1 finding: 2 hosts read in 1.2 s.\n")


def test_the_connection_and_its_pairs_are_shown() -> None:
    text = render_text([READING], [], 1.0)
    assert "a (Linux 6.18.1, Debian 13) > b (Linux 6.1.0), port 7000" in text
    assert "MPTCP to 192.0.2.2, connected in 2.0 ms: 1 of 2 expected subflows" in text
    assert "192.0.2.1 (eth1) > 192.0.2.2: established" in text
    assert "No finding" in text


@pytest.mark.parametrize("width", [40, 100])
def test_what_could_not_be_read_is_named_with_the_reason(width: int) -> None:
    words = " ".join(render_text([READING], [], 1.0, width=width).split())
    assert "Not read on b: limits, nft (the login is not root, and sudo -n does not work)" in words


def test_many_findings_fit_on_a_screen_the_worst_one_whole() -> None:
    found = [replace(FINDING, what=f"Finding number {number}.") for number in range(12)]
    text = render_text([READING], found, 1.0, lines=24)
    assert len(text.splitlines()) <= 24
    assert text.count("ip rule add") >= 1
    assert "number 1." in text
    assert "more; --all shows why" in text
    assert render_text([READING], found, 1.0, lines=0).count("ip rule add") == 12


def test_a_few_findings_are_shown_whole() -> None:
    text = render_text([READING], [FINDING, replace(FINDING, what="Another one.")], 1.0, lines=40)
    assert text.count("ip rule add") == 2
    assert "--all" not in text


def test_text_of_hosts_cannot_command_the_terminal() -> None:
    evil = replace(FINDING, what="bad \x1b[2J name", evidence=("\x1b]0;title\x07",), fix="echo \x1b[2J")
    assert "\x1b" not in render_text([READING], [evil], 1.0)


@pytest.mark.parametrize(
    ("handshake", "is_mptcp", "words"),
    [
        (Handshake(synack_option=True, synack_version=1), True, "MP_CAPABLE answered, version 1"),
        (Handshake(synack_option=False), False, "the SYN/ACK has no MP_CAPABLE"),
        (Handshake(synack_option=True, is_mirrored=True), False, "something on the way mirrors it"),
    ],
)
def test_a_remote_server_is_a_line_for_each_address(handshake: Handshake, is_mptcp: bool, words: str) -> None:
    first = Attempt("192.0.2.1", "192.0.2.2", "mptcp", 0.001, is_mptcp=is_mptcp)
    made = replace(CONNECTION, attempts=(first,), client_capture=CaptureSummary(5, handshake=handshake))
    text = render_text([PairReading(CLIENT, None, 7000, made)], [], 1.0)
    assert text.startswith("192.0.2.1 (eth1) > ")
    assert words in text.splitlines()[0]


@pytest.mark.parametrize("made", [document(), document(FINDING), build_error("a: it cannot be reached")])
def test_the_document_is_as_the_schema_says(made: dict[str, Any]) -> None:
    jsonschema.validate(json.loads(json.dumps(made)), SCHEMA)


def test_a_document_with_another_field_is_refused_by_the_schema() -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**document(), "more": 1}, SCHEMA)


def test_the_status_is_that_of_the_exit() -> None:
    assert [document()["status"], document(FINDING)["status"]] == ["healthy", "findings"]
