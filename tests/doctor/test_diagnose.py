"""An unhealthy connection is never called healthy, whatever the rules know."""

from dataclasses import replace

import pytest

from mptcp_lab.doctor.connection_reading import Attempt, ConnectionReading, Pair
from mptcp_lab.doctor.diagnose import UNEXPLAINED, diagnose, diagnose_all
from mptcp_lab.doctor.finding import Finding, Rule, Severity
from mptcp_lab.doctor.host_reading import HostReading
from mptcp_lab.doctor.readings import PairReading

FIRST = Attempt("", "192.0.2.2", "mptcp", 0.001, is_mptcp=True)
HEALTHY = ConnectionReading(
    7000,
    server_address="192.0.2.2",
    attempts=(FIRST,),
    subflows=1,
    expected=1,
    pairs=(Pair("192.0.2.1", "192.0.2.2", "established", is_first=True),),
)


def reading(connection: ConnectionReading | None) -> PairReading:
    return PairReading(HostReading("a"), HostReading("b"), 7000, connection)


def test_a_healthy_connection_has_no_finding() -> None:
    assert diagnose(reading(HEALTHY), ()) == ()


@pytest.mark.parametrize(
    ("connection", "words"),
    [
        (None, "no address"),
        (replace(HEALTHY, attempts=(replace(FIRST, error="ECONNREFUSED", is_mptcp=None),)), "ECONNREFUSED"),
        (replace(HEALTHY, attempts=(replace(FIRST, is_mptcp=False),)), "plain TCP"),
        (replace(HEALTHY, pairs=(*HEALTHY.pairs, Pair("x", "y", "refused"))), "1 of 1 expected"),
    ],
)
def test_anything_else_has_one(connection: ConnectionReading | None, words: str) -> None:
    (found,) = diagnose(reading(connection), ())
    assert found.rule == UNEXPLAINED
    assert words in found.what


def test_a_cause_that_a_rule_found_is_enough_but_a_note_is_not() -> None:
    cause = Finding("cause", Severity.WARNING, "a", "It is this.", "So.")
    broken = reading(replace(HEALTHY, attempts=(replace(FIRST, is_mptcp=False),)))
    assert diagnose(broken, (Rule("cause", "", lambda _: (cause,)),)) == (cause,)
    note = replace(cause, severity=Severity.NOTE)
    found = diagnose(broken, (Rule("cause", "", lambda _: (note,)),))
    assert [each.rule for each in found] == [UNEXPLAINED, "cause"]


def test_a_finding_of_two_pairs_is_reported_once() -> None:
    off = replace(reading(HEALTHY), client=HostReading("a", mptcp_socket="ENOPROTOOPT"))
    found = diagnose_all([off, replace(off, server=HostReading("c"))])
    assert [each.rule for each in found].count("off-at-client") == 1


def test_a_server_that_does_not_answer_its_proxy_is_a_finding_and_plain_tcp_is_none() -> None:
    plain = replace(HEALTHY, attempts=(replace(FIRST, is_mptcp=False),))
    refused = replace(HEALTHY, attempts=(replace(FIRST, error="ECONNREFUSED", is_mptcp=None),))
    behind = replace(reading(HEALTHY), proxy=HostReading("p"), onward=plain)
    assert diagnose(behind, ()) == ()
    (found,) = diagnose(replace(behind, onward=refused), ())
    assert (found.rule, found.host) == (UNEXPLAINED, "p")
