"""Break one thing on a converged lab, see the check that is about it fail, and mend it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.e2e.conftest import Configured


@dataclass(frozen=True)
class Sabotage:
    """What is broken, on which host, by which commands, and a word that the check's reason must have."""

    claim: str
    host: str
    command: str
    mend: str
    word: str


@contextmanager
def broken(lab: Configured, host: str, command: str, mend: str) -> Iterator[None]:
    lab.own.ssh(host, command)
    try:
        yield
    finally:
        lab.own.ssh(host, mend)


def assert_seen(configured: Configured, sabotage: Sabotage) -> None:
    """Assert that the check fails (a SHOULD: strictly) on the broken lab, for the right reason.

    That it passes on the mended one is for test_whole_suite.py, which runs after all sabotage.
    """
    claim = sabotage.claim
    with broken(configured, sabotage.host, sabotage.command, sabotage.mend):
        red = configured.suite(f"--claim={claim}", "--strict")
    assert red.verdicts().get(claim) == "fail", red.output  # of further cases, the whole suite tells
    assert sabotage.word in red.reason(claim), red.reason(claim)
    assert red.code == 1
