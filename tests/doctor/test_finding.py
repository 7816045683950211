"""Findings: their order, consequences folded below causes, JSON."""

import json

from mptcp_lab.doctor.finding import Confidence, Finding, Rule, Severity, find_all, fold, from_json, to_json
from mptcp_lab.doctor.host_reading import HostReading
from mptcp_lab.doctor.readings import PairReading
from mptcp_lab.doctor.rules import gather

ROUTE = Finding("route", Severity.WARNING, "a", "No route.", "The path is unused.")
LOST = Finding("lost", Severity.ERROR, "a", "A join is lost.", "So.", follows_from=("route", "firewall"))
SLOW = Finding("slow", Severity.NOTE, "b", "It is slow.", "So.", follows_from=("lost",))
GUESS = Finding("guess", Severity.WARNING, "b", "Maybe.", "So.", confidence=Confidence.POSSIBLE)


def test_the_worst_and_surest_comes_first() -> None:
    assert [each.rule for each in fold((GUESS, SLOW, ROUTE))] == ["route", "guess", "slow"]


def test_consequences_are_folded_below_their_first_cause() -> None:
    (cause,) = fold((SLOW, LOST, ROUTE))
    assert cause.rule == "route"
    assert [each.rule for each in cause.folded] == ["lost", "slow"]


def test_a_consequence_whose_cause_was_not_found_stands_alone() -> None:
    assert fold((LOST,)) == (LOST,)


def test_causes_that_name_one_another_are_one_finding() -> None:
    first = Finding("one", Severity.ERROR, "a", "One.", "So.", follows_from=("two",))
    second = Finding("two", Severity.NOTE, "a", "Two.", "So.", follows_from=("one",))
    (cause,) = fold((second, first))
    assert (cause.rule, [each.rule for each in cause.folded]) == ("one", ["two"])


def test_a_finding_that_two_legs_share_is_reported_once() -> None:
    rule = Rule("route", "no route", lambda _: (ROUTE, ROUTE))
    assert find_all((rule, rule), PairReading(HostReading("a"), None, 1)) == (ROUTE,)


def test_findings_survive_json() -> None:
    found = fold((SLOW, LOST, ROUTE))
    assert from_json(json.loads(json.dumps(to_json(found)))) == found


def test_every_rule_has_a_name_of_its_own() -> None:
    names = [rule.name for rule in gather()]
    assert names
    assert len(names) == len(set(names))


def test_mptcp_that_is_off_is_found_at_its_host() -> None:
    reading = PairReading(HostReading("a"), HostReading("b", mptcp_socket="ENOPROTOOPT"), 7000)
    assert [(each.rule, each.host) for each in find_all(gather(), reading)] == [("off-at-server", "b")]
