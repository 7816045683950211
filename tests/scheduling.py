"""Distribute files of tests over workers, so that only as many workers have labs as the machine allows.

A lab stays up until its worker ends. Tests of labs mostly wait, and other tests compute: workers without a
lab use the processors meanwhile. One worker runs all tests of the probe, because they write records of faults
to the same folder of the machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xdist.scheduler import LoadFileScheduling

#: Folders whose tests bring labs up.
WITH_LABS = ("tests/embedded/", "tests/e2e/")
#: A folder whose tests are given to one worker as if they were in one file.
TOGETHER = "tests/probe/"
#: A lab of seven hosts takes 28 inotify instances, and the machine of a column none. Beside the labs there is
#: room for the machine's own services, and a lab of six hosts that a test has besides.
PER_LAB, BESIDE, MOST_LABS = 28, 44, 3
INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")


def count_labs(instances: int) -> int:
    """Return how many workers may have labs where a user may have this many inotify instances."""
    return max(1, min(MOST_LABS, (instances - BESIDE) // PER_LAB))


class LabsOnFewWorkers(LoadFileScheduling):
    """A worker gets a file at a time, in the order of collection; only some workers get files with labs."""

    def __init__(self, config: Any, log: Any = None, labs: int | None = None) -> None:
        super().__init__(config, log)
        self.labs = labs or count_labs(int(INSTANCES.read_text()))
        self.with_lab: set[Any] = set()

    def remove_node(self, node: Any) -> str | None:
        """Forget a worker that has ended: another one may have a lab in its place."""
        self.with_lab.discard(node)
        return super().remove_node(node)

    def _split_scope(self, nodeid: str) -> str:
        return TOGETHER if nodeid.startswith(TOGETHER) else super()._split_scope(nodeid)

    def _find_scope(self, node: Any) -> str | None:
        """Return the first file that a worker may have; None if there is none."""
        may_have_lab = node in self.with_lab or len(self.with_lab) < self.labs
        return next(
            (scope for scope in self.workqueue if may_have_lab or not scope.startswith(WITH_LABS)), None
        )

    def _assign_work_unit(self, node: Any) -> None:
        scope = self._find_scope(node)
        if scope is None:
            node.shutdown()  # after what it was given already
            return
        if scope.startswith(WITH_LABS):
            self.with_lab.add(node)
        self.workqueue.move_to_end(scope, last=False)
        super()._assign_work_unit(node)
