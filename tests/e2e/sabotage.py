"""Break one thing on a converged lab, see the check that is about it fail, and repair it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from _pytest.mark import ParameterSet

from tests.e2e.conftest import Configured

#: Options of a run on a broken lab: it does not wait long for what the sabotage prevents.
IMPATIENT = ("-p", "tests.e2e.impatient")
#: Mends what `filtered` breaks.
TABLE_GONE = "nft delete table inet sabotage"


@dataclass(frozen=True)
class Sabotage:
    """A fault: its host, its commands, and a word that the check's reason must have."""

    claim: str
    host: str
    command: str
    mend: str
    word: str


def filtered(claim: str, host: str, hook: str, rule: str, word: str) -> Sabotage:
    """Let a host's packet filter act on what it receives, sends or forwards."""
    chain = f"add chain inet sabotage c {{ type filter hook {hook} priority 0; }}"
    command = f"nft 'add table inet sabotage; {chain}; add rule inet sabotage c {rule}'"
    return Sabotage(claim, host, command, TABLE_GONE, word)


@contextmanager
def broken(lab: Configured, host: str, command: str, mend: str) -> Iterator[None]:
    lab.own.ssh(host, command)
    try:
        yield
    finally:
        lab.own.ssh(host, mend)


def with_marks(sabotages: Mapping[str, Sabotage], always: Collection[str]) -> list[ParameterSet]:
    """Return the parameters of a test: those that are not named in `always` run with ``-m long`` only."""
    return [
        pytest.param(sabotage, id=name, marks=[] if name in always else pytest.mark.long)
        for name, sabotage in sabotages.items()
    ]


def share_runs(sabotages: Iterable[Sabotage]) -> list[ParameterSet]:
    """Return the parameters of a test: sabotages that break the same thing share one run of the suite."""
    groups: dict[tuple[str, str, str], list[Sabotage]] = {}
    for each in sabotages:
        groups.setdefault((each.host, each.command, each.mend), []).append(each)
    return [pytest.param(group, id=" ".join(each.claim for each in group)) for group in groups.values()]


def options(*cases: str) -> list[str]:
    """Return the suite's options that select these cases, and no others of their claims."""
    return [f"--claim={case}" if "[" in case else f"--claim={case}[]" for case in cases]


def assert_seen(configured: Configured, *sabotages: Sabotage) -> None:
    """Assert that the checks fail (a SHOULD: strictly) on the broken lab, for the right reasons.

    All sabotages break the same thing. That the checks pass on a healthy lab is for test_whole_suite.py.
    """
    first = sabotages[0]
    claims = [each.claim for each in sabotages]
    with broken(configured, first.host, first.command, first.mend):
        red = configured.suite(*options(*claims), "--strict", *IMPATIENT)
    assert red.verdicts() == dict.fromkeys(claims, "fail"), red.output
    for each in sabotages:
        assert each.word in red.reason(each.claim), red.reason(each.claim)
    assert red.code == 1
