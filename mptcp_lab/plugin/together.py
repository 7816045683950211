"""Run the checks of a session together with further labs, or as the part of such a run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mptcp_lab.evidence import disk_full_error
from mptcp_lab.plugin.cases import case_of
from mptcp_lab.plugin.further_labs import PART, FurtherLab, collect
from mptcp_lab.plugin.sharing import Share, cases_left, digest, run_taken
from mptcp_lab.plugin.state import RUN
from mptcp_lab.results.part import PartEnd, append
from mptcp_lab.results.result import Check
from mptcp_lab.results.verdict import Ending

PARTS = pytest.StashKey[list[FurtherLab]]()
#: The folder in which runs take checks, below that of the results; and the file that identifies the checks.
TAKEN, CHECKS = "taken", "checks"
#: How long to wait for the end of a part before its new checks are shown.
SHOW_S = 0.5

Tell = Callable[[pytest.Item, Check], None]


def run_with_further_labs(session: pytest.Session, tell: Tell) -> None:
    """Run the checks of a session, each in the first lab or in a further one; ``tell`` reports a check."""
    config = session.config
    run = config.stash[RUN]
    share = Share(run.folder / TAKEN)
    shutil.rmtree(share.folder, ignore_errors=True)  # of a run that was killed, in the same folder
    share.folder.mkdir()
    (share.folder / CHECKS).write_text(digest(session.items))
    arguments = [str(word) for word in config.invocation_params.args]
    parts = config.stash[PARTS] = []
    ended = False
    try:
        for number, inventory in enumerate(config.option.also_hosts, 2):
            folder = run.folder / f"part-{number}"
            shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed, usually missing
            where = config.invocation_params.dir
            parts.append(FurtherLab.start(inventory, folder, share.folder, arguments, where))
        run_taken(session, share, run.may_start)
        if run.ending is not Ending.LAB_BUSY:
            for part in parts:
                while not part.has_ended(within=SHOW_S):
                    show_others(session, tell)
        ended = True
    finally:
        for part in parts:
            part.stop()
        show_others(session, tell)
        for part in parts:
            part.conclude(run, was_stopped=not ended)
        shutil.rmtree(share.folder, ignore_errors=True)  # empty files; must not hide an error of the run
        for item in cases_left(session):
            if (case := case_of(item)) and (left_out := run.record_not_started(case)):
                tell(item, left_out)
        _put_in_order(session)


def show_others(session: pytest.Session, tell: Tell) -> None:
    """Add the checks that ended in further labs to the run, and report them."""
    parts = session.config.stash.get(PARTS, [])
    if parts:
        items = {case.name: item for item in session.items if (case := case_of(item))}
        collect(parts, session.config.stash[RUN], lambda check: tell(items[check.case], check))


def _put_in_order(session: pytest.Session) -> None:
    """Sort the checks of the run in the order of collection, as if there were one lab."""
    places = {case.name: place for place, item in enumerate(session.items) if (case := case_of(item))}
    session.config.stash[RUN].checks.sort(key=lambda check: places[check.case])


def is_part(config: pytest.Config) -> bool:
    """Return whether this run is a part of another one, which writes the results."""
    return bool(config.option.part_of)


def run_part(session: pytest.Session) -> None:
    """Run the checks of a session that this part takes."""
    config = session.config
    run = config.stash[RUN]
    share = Share(Path(config.option.part_of))
    if digest(session.items) != (share.folder / CHECKS).read_text():
        run.stop(
            Ending.LAB_BROKEN, "it has other checks than the first lab", "use inventories that are equal"
        )
    parent = os.getppid()

    def may_go_on() -> bool:
        if os.getppid() != parent:
            run.stop(Ending.INTERRUPTED, "the run that this one is a part of has gone")
        return run.may_start()

    run_taken(session, share, may_go_on)


def pass_on(config: pytest.Config, entry: Check | PartEnd) -> None:
    """Pass a check of a part, or its end, on to the run that it belongs to."""
    run = config.stash[RUN]
    try:
        append(run.folder / PART, entry)
    except OSError as full:
        broken = disk_full_error(run.folder, full)
        run.stop(Ending.LAB_BROKEN, str(broken), broken.next_step)


def end_part(config: pytest.Config) -> None:
    """Pass on how this part has ended."""
    run = config.stash[RUN]
    pass_on(config, PartEnd(run.ending, run.sentence, run.next_step, run.facts))
