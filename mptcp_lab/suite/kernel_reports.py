"""Find reports of faults in a kernel log: warnings, oopses, and those of lockdep and the sanitizers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from mptcp_lab.evidence import EvidenceBox

#: The first line of a report; the kernel prints each of these words itself (kernel/panic.c, lib/dump_stack.c,
#: kernel/locking/lockdep.c, mm/kasan/report.c, lib/ubsan.c, mm/kmemleak.c, net/core/dev.c).
FIRST_LINE = re.compile(
    r"^(WARNING: |BUG: |kernel BUG at |Oops|general protection fault|stack segment: "
    r"|Unable to handle kernel|Kernel panic|UBSAN: |refcount_t: |divide error"
    r"|INFO: (possible |inconsistent lock|trying to register|task .* blocked for more than|rcu_.* detected)"
    r"|rcu: INFO: .* (detected|self-detected)"
    r"|======+$|kmemleak: \d+ new suspected memory leaks"
    r"|unregister_netdevice: waiting for |NETDEV WATCHDOG)"
)
BEFORE = re.compile(r"^-+\[ cut here \]-+$")
LAST_LINE = re.compile(r"^---\[ end (trace|Kernel panic)")
#: A line of equals signs opens and closes reports of lockdep and KASAN; these words follow the opening one.
AFTER_EQUALS = re.compile(r"^(WARNING|BUG|\[ BUG)")
REPORT_LINES = 60


def check_kernels_quiet(logs: Mapping[str, Sequence[str]], evidence: EvidenceBox) -> None:
    """Check that no kernel reported a fault in these lines (by host); keep each report as evidence."""
    found = [(name, report) for name, lines in logs.items() for report in kernel_reports(lines)]
    for name, report in found:
        evidence.text(f"kernel log of {name}", "\n".join(report))
    named = "; ".join(f"{name}: {title(report)}" for name, report in found)
    assert not found, f"a kernel reported a fault during the check: {named}"


def kernel_reports(lines: Sequence[str]) -> list[list[str]]:
    """Return each report in a log as its lines, `REPORT_LINES` at most."""
    reports = []
    position = 0
    while position < len(lines):
        if not _begins(lines, position):
            position += 1
            continue
        end = _end(lines, position)
        reports.append(list(lines[position:end]))
        position = end
    return reports


def _begins(lines: Sequence[str], position: int) -> bool:
    line = lines[position]
    following = lines[position + 1] if position + 1 < len(lines) else ""
    if set(line) == {"="}:
        return bool(AFTER_EQUALS.match(following))
    return bool(FIRST_LINE.match(line))


def _end(lines: Sequence[str], start: int) -> int:
    """Return the position after the report that starts here."""
    limit = min(len(lines), start + REPORT_LINES)
    for position in range(start + 1, limit):
        if LAST_LINE.match(lines[position]):
            return position + 1
        if BEFORE.match(lines[position]):
            return position
    return limit


def title(report: Sequence[str]) -> str:
    """Return the line of a report that names what happened."""
    return next(line for line in report if set(line) != {"="})
