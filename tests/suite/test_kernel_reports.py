"""Test the search of a kernel log for reports, with reports as kernels printed them, shortened."""

from __future__ import annotations

from pathlib import Path

import pytest

from mptcp_lab.evidence import EvidenceBox
from mptcp_lab.suite.kernel_reports import REPORT_LINES, check_kernels_quiet, kernel_reports, title

USUAL = [
    "eth1: renamed from veth0",
    "br0: port 1(p1) entered disabled state",
    "TCP: request_sock_subflow_v4: Possible SYN flooding on port 7000. Sending cookies.",
    "perf: interrupt took too long (2509 > 2500), lowering kernel.perf_event_max_sample_rate to 79500",
    "nf_conntrack: default automatic helper assignment has been turned off",
]
WARNING = [
    "------------[ cut here ]------------",
    "WARNING: CPU: 1 PID: 4567 at net/mptcp/protocol.c:1350 mptcp_sendmsg_frag+0x8f1/0xa40",
    "Modules linked in: mptcp_diag inet_diag",
    "RIP: 0010:mptcp_sendmsg_frag+0x8f1/0xa40",
    "Call Trace:",
    " __mptcp_push_pending+0x1a2/0x2d0",
    "---[ end trace 0000000000000000 ]---",
]
LOCKDEP = [
    "======================================================",
    "WARNING: possible circular locking dependency detected",
    "6.18.0 #1 Not tainted",
    "------------------------------------------------------",
    "python3/812 is trying to acquire lock:",
]
KASAN = [
    "==================================================================",
    "BUG: KASAN: slab-use-after-free in mptcp_pm_nl_rm_addr_or_subflow+0x2d1/0x6e0",
    "Read of size 8 at addr ffff888103aa4c90 by task kworker/1:2/91",
    "==================================================================",
]


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        (WARNING, WARNING[1]),
        (LOCKDEP, LOCKDEP[1]),
        (KASAN, KASAN[1]),
        (["kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)"], "kmemleak: 3 new"),
        (["UBSAN: shift-out-of-bounds in net/mptcp/options.c:42:9"], "UBSAN: shift"),
        (["unregister_netdevice: waiting for eth1 to become free. Usage count = 2"], "unregister_netdevice"),
        (["INFO: task kworker/u8:1:33 blocked for more than 120 seconds."], "INFO: task"),
    ],
)
def test_a_report_is_found_among_usual_lines(lines: list[str], name: str) -> None:
    (report,) = kernel_reports([*USUAL, *lines])
    assert title(report).startswith(name)


def test_usual_lines_are_no_report() -> None:
    assert kernel_reports(USUAL * 3) == []


def test_reports_end_where_the_kernel_ends_them() -> None:
    first, second = kernel_reports([*WARNING, *USUAL, *WARNING, *USUAL])
    assert first == second == WARNING[1:]


def test_an_open_end_is_cut() -> None:
    (report,) = kernel_reports([WARNING[1], *USUAL * REPORT_LINES])
    assert len(report) == REPORT_LINES


def test_a_check_during_which_a_kernel_warned_fails_with_the_text_as_evidence(tmp_path: Path) -> None:
    box = EvidenceBox(tmp_path, tmp_path)
    with pytest.raises(AssertionError, match=r"server1: WARNING: CPU: 1 PID: 4567 at net/mptcp/protocol\.c"):
        check_kernels_quiet({"client1": USUAL, "server1": [*USUAL, *WARNING]}, box)
    (kept,) = box.files
    assert "mptcp_sendmsg_frag" in (tmp_path / kept.file).read_text()


def test_a_check_with_quiet_kernels_keeps_nothing(tmp_path: Path) -> None:
    box = EvidenceBox(tmp_path, tmp_path)
    check_kernels_quiet({"client1": USUAL, "server1": []}, box)
    assert not box.files
