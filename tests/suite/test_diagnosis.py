"""Which pairs of a lab the doctor looks at after a failure, and which finding becomes the cause."""

from __future__ import annotations

import pytest

from mptcp_lab.doctor.finding import Confidence, Finding, Severity
from mptcp_lab.inventory import load
from mptcp_lab.paths import ROOT
from mptcp_lab.results.causes import Cause
from mptcp_lab.suite.diagnosis import speaking_pairs, worst_cause

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
        ({"client"}, set()),
        (set(), set()),
    ],
)
def test_pairs_are_those_of_the_check_that_are_to_speak_mptcp(
    used: set[str], pairs: set[tuple[str, str]]
) -> None:
    assert {(one, other) for one, other, _ in speaking_pairs(LAB, used)} == pairs


def test_the_worst_finding_is_the_cause() -> None:
    worse, worst = finding("Slow.", Severity.WARNING), finding("Down.", Severity.ERROR)
    assert worst_cause([worse, worst]) == Cause("Down.", "client", "on client: ip link set eth2 up")


def test_notes_and_guesses_are_no_causes() -> None:
    assert worst_cause([finding("Odd.", Severity.NOTE)]) is None
    assert worst_cause([finding("Perhaps.", Severity.ERROR, Confidence.POSSIBLE)]) is None
    assert worst_cause([]) is None
