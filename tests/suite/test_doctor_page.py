"""The page on troubleshooting shows the rules of the diagnosis, not a copy of them."""

from __future__ import annotations

import re

from mptcp_lab.doctor.__main__ import table
from mptcp_lab.doctor.counters import RULES
from mptcp_lab.paths import ROOT

#: What a fingerprint names: a counter of net/mptcp/mib.h.
COUNTER = re.compile(r"`(\w+)`")


def test_the_page_shows_the_rules() -> None:
    page = (ROOT / "docs/troubleshooting.md").read_text()
    assert table() in page, "copy what `python -m mptcp_lab.doctor` prints into the page"


def test_a_fingerprint_names_the_counters_that_its_rule_reads() -> None:
    for rule in RULES:
        read = {name for name in rule.matches.__code__.co_consts if isinstance(name, str)}
        assert set(COUNTER.findall(rule.fingerprint)) == read, rule.fingerprint
