"""Judge a capture between two kernels by the requirements of RFC 8684."""

from __future__ import annotations

from collections.abc import Collection

from mptcp_lab.wire import Segment, analyse
from mptcp_lab.wire.rows import ROWS, Outcome


def check_rows(packets: Collection[Segment], aliases: Collection[str]) -> None:
    """Check that a capture breaches no requirement, and shows these ones at work.

    Requirements are named by their aliases (R-numbers).
    """
    connections = analyse(tuple(packets)).mptcp
    judged = [(row.alias, row.check(connection)) for row in ROWS for connection in connections]
    breached = [f"{alias}: {o.detail}" for alias, o in judged if o.outcome is Outcome.BREACH]
    assert not breached, "; ".join(breached)
    seen = {alias for alias, o in judged if o.outcome is not Outcome.NOT_OBSERVED}
    assert seen >= set(aliases), f"the capture does not show {sorted(set(aliases) - seen)}"
