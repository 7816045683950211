"""Share the checks of a run among equal labs: each check runs in the lab whose run takes it first.

The runs have collected the same checks in the same order. A run takes a group of checks by creating a file in
a folder that they share, so that the one that is faster takes more, and all end at about the same time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pytest

from mptcp_lab.plugin.cases import case_of
from mptcp_lab.plugin.state import RUN

#: Scopes of fixtures that several checks share, but not all checks of the run.
SHARED_SCOPES = ("class", "module", "package")


@dataclass(frozen=True)
class Share:
    """The folder in which the runs take groups, by their number."""

    folder: Path

    def take(self, number: int) -> bool:
        """Take a group; return False if another run has taken it."""
        try:
            (self.folder / str(number)).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def group_checks(items: Sequence[pytest.Item]) -> list[list[pytest.Item]]:
    """Return the groups of checks that run in one lab: neighbours that share a fixture, or single checks."""
    return [list(group) for _, group in groupby(items, key=_common_ground)]


def _common_ground(item: pytest.Item) -> object:
    """Return what the checks of one group have in common."""
    info = getattr(item, "_fixtureinfo", None)  # pytest has no public way to the fixtures of a check
    definitions = info.name2fixturedefs if info else {}
    shared = sorted(name for name, found in definitions.items() if found[-1].scope in SHARED_SCOPES)
    if not shared:
        return item.nodeid
    callspec = getattr(item, "callspec", None)
    chosen = callspec.indices if callspec else {}
    return item.path, tuple((name, chosen.get(name)) for name in shared)


def digest(items: Sequence[pytest.Item]) -> str:
    """Return what identifies the checks of a run and their order."""
    return hashlib.sha256("\n".join(item.nodeid for item in items).encode()).hexdigest()


def run_taken(session: pytest.Session, share: Share, may_go_on: Callable[[], bool]) -> None:
    """Run the checks that this run takes, until none is left or ``may_go_on`` returns False."""
    taken = _take(session, share, may_go_on)
    current = next(taken, None)
    while current is not None:
        following = next(taken, None)
        session.config.hook.pytest_runtest_protocol(item=current, nextitem=following)
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
        current = following


def _take(session: pytest.Session, share: Share, may_go_on: Callable[[], bool]) -> Iterator[pytest.Item]:
    for number, group in enumerate(group_checks(session.items)):
        if not may_go_on():
            return
        if share.take(number):
            yield from group


def cases_left(session: pytest.Session) -> list[pytest.Item]:
    """Return the checks of a session that have no verdict."""
    done = {check.case for check in session.config.stash[RUN].checks}
    return [item for item in session.items if (case := case_of(item)) and case.name not in done]
