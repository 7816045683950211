"""Keep what a run has in pytest's stash, and what a suite registers there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mptcp_lab.inventory import Lab
from mptcp_lab.inventory.requirement import Requirement
from mptcp_lab.plugin import cases
from mptcp_lab.plugin.attempt import Diagnose, Explain
from mptcp_lab.plugin.cases import case_of
from mptcp_lab.plugin.live import Live
from mptcp_lab.plugin.run import Case, Run
from mptcp_lab.results.result import Result

RUN = pytest.StashKey[Run]()
LIVE = pytest.StashKey[Live]()
RESULT = pytest.StashKey[Result]()
BASELINE = pytest.StashKey[Result | None]()
EXPLAIN = pytest.StashKey[Explain]()
DIAGNOSE = pytest.StashKey[Diagnose]()


def lab_of(config: pytest.Config) -> Lab:
    """Return the lab that ``--hosts`` names, as its inventory describes it."""
    return config.stash[RUN].lab


def describe(config: pytest.Config, host: str, **facts: Any) -> None:
    """Store facts about a host (``kernel="6.18"``, ``versions={...}``) in the result and its reports."""
    config.stash[RUN].facts.setdefault(host, {}).update(facts)


def describe_run(config: pytest.Config, lab: Lab, **facts: Any) -> None:
    """Store the lab as its hosts have it, and fields of `MadeBy` that only the open session has."""
    run = config.stash[RUN]
    run.lab_in_use, run.made_by = lab, replace(run.made_by, **facts)


def explain_failures(config: pytest.Config, explain: Explain) -> None:
    """Register a function that is called after a check fails; an error that it returns explains the failure.

    The outcome then follows from that error: normally the check is inconclusive.
    """
    config.stash[EXPLAIN] = explain


def diagnose_failures(config: pytest.Config, diagnose: Diagnose) -> None:
    """Register a function that is called after a claim did not hold; the failure refers to its cause.

    The verdict stays. The result has each cause once, with all checks that it explains.
    """
    config.stash[DIAGNOSE] = diagnose


def fixtures_require(config: pytest.Config, fixtures: Mapping[str, Requirement]) -> None:
    """Declare the requirement of each fixture: the inventory must meet it for checks that use the fixture."""
    config.stash[cases.FIXTURES] = fixtures


def selected_cases(session: pytest.Session) -> list[Case]:
    """Return the cases of the checks that a session runs."""
    return [case for item in session.items if (case := case_of(item))]


def shorten_path(config: pytest.Config, path: Path) -> str:
    """Return a path relative to the folder in which the command was run, or absolute if it is outside."""
    here = config.invocation_params.dir
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
