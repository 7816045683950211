"""Each rule on the healthy reading with the one edit that its fault makes: that finding, and no other."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import fields, replace

import pytest

from mptcp_lab.doctor.finding import Finding, find_all
from mptcp_lab.doctor.host_reading import HostReading
from mptcp_lab.doctor.readings import PairReading
from mptcp_lab.doctor.rules import by_counters, gather
from mptcp_lab.doctor.service_reading import Listener
from mptcp_lab.doctor.unreadable import Unreadable
from tests.doctor.edits import EMBEDDED, HEALTHY, RECORDED, chain, must, on
from tests.doctor.faults import FAULTS

RULES = gather()


#: Healthy readings, by name.
READINGS = {"by hand": HEALTHY, "embedded lab": EMBEDDED}


#: Commands by which a setting comes into force at each boot.
KEEPERS = (
    "apt-get install",
    "echo ",
    "iptables-save > ",
    "mkdir -p ",
    "nft list ruleset > ",
    "printf ",
    "systemctl daemon-reload",
    "systemctl disable ",
    "systemctl enable ",
)


def found(rule: str, reading: PairReading = HEALTHY) -> tuple[Finding, ...]:
    return find_all(RULES, FAULTS[rule][1](reading))


def every_finding() -> Iterator[Finding]:
    for rule in FAULTS:
        for each in found(rule):
            yield each
            yield from each.folded


@pytest.mark.parametrize("reading", READINGS.values(), ids=READINGS.keys())
def test_a_healthy_reading_gives_no_finding(reading: PairReading) -> None:
    assert find_all(RULES, reading) == ()


def test_every_rule_has_a_fault() -> None:
    by_table = {each.name for each in by_counters.RULES}
    assert {rule.name for rule in RULES} - by_table == set(FAULTS)


@pytest.mark.parametrize("reading", READINGS.values(), ids=READINGS.keys())
@pytest.mark.parametrize("rule", FAULTS)
def test_a_fault_gives_its_finding_and_no_other(rule: str, reading: PairReading) -> None:
    assert [(each.rule, each.host) for each in found(rule, reading)] == [(rule, FAULTS[rule][0])]


@pytest.mark.parametrize("rule", FAULTS)
def test_a_finding_has_whole_sentences_and_evidence(rule: str) -> None:
    (finding,) = found(rule)
    for sentence in (finding.what, finding.why):
        assert sentence.endswith(".") and "  " not in sentence, sentence
    assert finding.evidence, rule
    assert finding.fix, rule


@pytest.mark.parametrize("rule", FAULTS)
def test_what_keeps_a_repair_is_a_command_that_changes_the_host(rule: str) -> None:
    (finding,) = found(rule)
    assert not finding.persistent or finding.persistent.startswith(KEEPERS), finding.persistent


def test_an_option_that_the_kernel_takes_gives_no_finding() -> None:
    edited = chain(FAULTS["option-refused"][1], on("server", refused_options={"TCP_MD5SIG": "ENOPROTOOPT"}))
    assert find_all(RULES, edited(HEALTHY)) == ()


def test_consequences_name_rules_that_exist() -> None:
    names = {rule.name for rule in RULES}
    for each in every_finding():
        assert set(each.follows_from) <= names, each.rule


def test_rules_are_deterministic() -> None:
    edited = FAULTS["endpoint-device-down"][1](HEALTHY)
    assert find_all(RULES, edited) == find_all(tuple(reversed(RULES)), edited)


def test_readings_that_could_not_be_taken_give_no_finding() -> None:
    nothing = {
        each.name: Unreadable("needs root") for each in fields(HostReading) if "Unreadable" in str(each.type)
    }
    blind = replace(
        HEALTHY, client=replace(HEALTHY.client, **nothing), server=replace(must(HEALTHY.server), **nothing)
    )
    assert find_all(RULES, blind) == ()


def test_each_fault_is_provoked_or_says_why_not() -> None:
    table = tomllib.loads((RECORDED.parent / "provocations.toml").read_text())
    provoked, reasons = {each["rule"] for each in table["provocation"]}, table["unprovoked"]
    assert set(FAULTS) - provoked == set(reasons)
    assert all(isinstance(why, str) and why for why in reasons.values())


@pytest.mark.parametrize(("protocol", "is_found"), [("mptcp", False), ("tcp", True)])
def test_a_client_that_also_accepts_mptcp_may_announce(protocol: str, is_found: bool) -> None:
    """A proxy that connects to another one announces for its own clients, which no connection contradicts."""
    reading = FAULTS["client-only-announces"][1](HEALTHY)
    unconnected = replace(
        reading,
        client=replace(reading.client, listeners=(Listener(protocol, "0.0.0.0", 7000),)),
        connection=None,
    )
    names = [each.rule for each in find_all(RULES, unconnected)]
    assert ("client-only-announces" in names) is is_found
