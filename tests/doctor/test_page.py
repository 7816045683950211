"""The page on troubleshooting shows the rules of the doctor, not a copy of them."""

from __future__ import annotations

import re

from mptcp_lab.doctor.counters import RULES
from mptcp_lab.doctor.page import replace_rules
from mptcp_lab.doctor.rules import gather
from mptcp_lab.paths import ROOT

#: What a fingerprint names: a counter of net/mptcp/mib.h.
COUNTER = re.compile(r"`(\w+)`")
PAGE = ROOT / "docs/troubleshooting.md"


def test_the_page_shows_the_rules() -> None:
    page = PAGE.read_text()
    assert page == replace_rules(page), "copy what `python -m mptcp_lab.doctor` prints into the page"


def test_every_rule_has_a_row_with_advice() -> None:
    page = PAGE.read_text()
    for rule in gather():
        assert f"| `{rule.name}` | {rule.pitfall} | {rule.advice} |" in page
        assert rule.advice, rule.name
        assert "|" not in rule.pitfall + rule.advice, rule.name


def test_a_fingerprint_names_the_counters_that_its_rule_reads() -> None:
    for rule in RULES:
        read = {name for name in rule.matches.__code__.co_consts if isinstance(name, str)}
        assert set(COUNTER.findall(rule.fingerprint)) == read, rule.fingerprint
