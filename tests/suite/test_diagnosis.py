"""Which pairs of a lab the doctor looks at after a failure, and which finding becomes the cause."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mptcp_lab.doctor.finding import Confidence, Finding, Severity, find_all
from mptcp_lab.doctor.readings import PairReading
from mptcp_lab.inventory import load
from mptcp_lab.paths import ROOT
from mptcp_lab.results.causes import Cause
from mptcp_lab.suite.diagnosis import lone_hosts, lone_rules, speaking_pairs, worst_cause
from tests.doctor.edits import EMBEDDED

STRIPS = "table inet t {\n\tchain c {\n\t\ttcp dport 7000 reset tcp option mptcp\n\t}\n}\n"
LAB = load(ROOT / "inventories" / "embedded")


def finding(what: str, severity: Severity, confidence: Confidence = Confidence.CERTAIN) -> Finding:
    return Finding(
        "a-rule", severity, "client", what, "It matters.", "ip link set eth2 up", confidence=confidence
    )


@pytest.mark.parametrize(
    ("used", "pairs"),
    [
        ({"client", "server1", "gateway"}, {("client", "server1")}),
        ({"client", "server2", "gateway"}, set()),  # server2 speaks plain TCP
        ({"client", "proxy1", "server2"}, {("client", "proxy1")}),
        ({"proxy1", "proxy2"}, {("proxy1", "proxy2"), ("proxy2", "proxy1")}),  # a relay between them
        ({"client"}, set()),
        (set(), set()),
    ],
)
def test_pairs_are_those_of_the_check_that_are_to_speak_mptcp(
    used: set[str], pairs: set[tuple[str, str]]
) -> None:
    assert {(one, other) for one, other, _ in speaking_pairs(LAB, used)} == pairs


@pytest.mark.parametrize(
    ("used", "alone"),
    [
        (["client", "server1", "gateway"], ["gateway"]),
        (["client", "server2", "gateway"], ["client", "server2", "gateway"]),
        (["proxy1", "proxy2"], []),
        ([], []),
    ],
)
def test_hosts_in_no_pair_are_examined_alone(used: list[str], alone: list[str]) -> None:
    assert lone_hosts(used, speaking_pairs(LAB, used)) == alone


def test_a_lab_in_which_nobody_speaks_mptcp_has_no_pair() -> None:
    hosts = {name: replace(host, services=()) for name, host in LAB.hosts.items()}
    assert speaking_pairs(replace(LAB, hosts=hosts), set(hosts)) == []


@pytest.mark.parametrize(
    ("name", "fields", "rules"),
    [
        ("gateway", {"nft": STRIPS}, ["filter-strips-options"]),
        ("gateway", {"mptcp_socket": "ENOPROTOOPT"}, []),  # a router needs no MPTCP
        ("server2", {"nft": STRIPS}, ["filter-strips-options"]),
        ("client", {"mptcp_socket": "EPROTONOSUPPORT"}, ["kernel-without-mptcp"]),
        ("client", {}, []),
    ],
)
def test_a_lone_host_is_judged_by_its_function(name: str, fields: dict[str, str], rules: list[str]) -> None:
    reading = replace(EMBEDDED.client, **fields)  # type: ignore[arg-type]
    found = find_all(lone_rules(LAB.hosts[name]), PairReading(reading, None, 0))
    assert [each.rule for each in found] == rules


def test_the_worst_finding_is_the_cause() -> None:
    worse, worst = finding("Slow.", Severity.WARNING), finding("Down.", Severity.ERROR)
    assert worst_cause([worse, worst]) == Cause("Down.", "client", "on client: ip link set eth2 up")


def test_notes_and_guesses_are_no_causes() -> None:
    assert worst_cause([finding("Odd.", Severity.NOTE)]) is None
    assert worst_cause([finding("Perhaps.", Severity.ERROR, Confidence.POSSIBLE)]) is None
    assert worst_cause([]) is None
